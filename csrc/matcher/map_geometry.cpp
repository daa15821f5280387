#include "matcher/map_geometry.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace spadeline {
namespace {

constexpr int64_t kLongestSide = 1 << 20;  // of a map; a GPU's grid may have 2^16 blocks of 32 rows, and more columns
constexpr double kLargestSigma = 1000;     // what Python's settings allow

std::string text(MapSize size) { return std::to_string(size.height) + " x " + std::to_string(size.width); }

}  // namespace

void check_map(MapSize distances, MapSize map, double sigma, const uint8_t* ignore, const uint8_t* ignored_distances) {
    const auto fits = [](int64_t side, int64_t map_side) {
        return 1 <= side && side <= map_side && map_side <= kLongestSide;
    };
    if (!fits(distances.height, map.height) || !fits(distances.width, map.width))
        throw std::invalid_argument("map: expected sides from the distances' " + text(distances) + " to " +
                                    std::to_string(kLongestSide) + ", got " + text(map));
    if (!(sigma >= 0 && sigma <= kLargestSigma))
        throw std::invalid_argument("sigma: expected 0 to 1000, got " + std::to_string(sigma));
    if (!ignore != !ignored_distances)
        throw std::invalid_argument("ignore: expected masks of the map and of the distances, or neither, got one");
}

std::vector<Place> places(int64_t side, int64_t map_side) {
    const double scale = static_cast<double>(side) / static_cast<double>(map_side);
    std::vector<Place> all(map_side);
    for (int64_t i = 0; i < map_side; ++i) {
        const double at = std::max((static_cast<double>(i) + 0.5) * scale - 0.5, 0.0);
        const auto first = static_cast<int64_t>(at);
        const bool last = first >= side - 1;
        all[i] = {static_cast<int32_t>(last ? side - 1 : first),
                  last ? 0.0f : static_cast<float>(at - static_cast<double>(first))};
    }
    return all;
}

std::vector<float> gaussian(double sigma) {
    const auto radius = static_cast<int>(4 * sigma + 0.5);
    std::vector<double> weights;
    double sum = 0;
    for (int i = -radius; i <= radius; ++i) {
        weights.push_back(i == 0 ? 1 : std::exp(-0.5 * (i / sigma) * (i / sigma)));
        sum += weights.back();
    }
    std::vector<float> normalised;
    for (const double weight : weights) normalised.push_back(static_cast<float>(weight / sum));
    return normalised;
}

std::vector<float> scored_of(const uint8_t* ignored, int64_t count) {
    std::vector<float> scored(count);
    std::transform(ignored, ignored + count, scored.begin(), [](uint8_t value) { return value ? 0.0f : 1.0f; });
    return scored;
}

}  // namespace spadeline
