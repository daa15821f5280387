#include "runtime/masks.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace spadeline {
namespace {

using Edges = std::vector<std::pair<int64_t, int64_t>>;

// Where each of `count` input pixels begins and ends along a side of the frame, rounded outwards.
Edges edges(int64_t count, double scale, double offset, int64_t length) {
    const auto clipped = [&](double edge) { return static_cast<int64_t>(std::clamp<double>(edge, 0, length)); };
    Edges all;
    for (int64_t i = 0; i < count; ++i) {
        const double first = static_cast<double>(i) * scale + offset,
                     last = static_cast<double>(i + 1) * scale + offset;
        all.emplace_back(clipped(std::floor(first + kEdgeRounding)), clipped(std::ceil(last - kEdgeRounding)));
    }
    return all;
}

}  // namespace

std::vector<uint8_t> any_under(const uint8_t* mask, PictureSize frame, PictureSize input, const Placement& placement) {
    const Edges rows = edges(input.height, placement.scale_y, placement.top, frame.height);
    const Edges columns = edges(input.width, placement.scale_x, placement.left, frame.width);
    std::vector<uint8_t> under;
    std::vector<uint8_t> strip(frame.width);  // the rows below a row of the input, laid over each other
    for (const auto& [top, bottom] : rows) {
        std::fill(strip.begin(), strip.end(), 0);
        for (int64_t y = top; y < bottom; ++y)
            for (int64_t x = 0; x < frame.width; ++x) strip[x] |= mask[y * frame.width + x];
        for (const auto& [left, right] : columns)
            under.push_back(std::any_of(strip.begin() + left, strip.begin() + std::max(left, right),
                                        [](uint8_t value) { return value != 0; }));
    }
    return under;
}

std::vector<uint8_t> ignored_distances(const uint8_t* ignore, PictureSize input, PictureSize distances) {
    std::vector<uint8_t> scored(input.height * input.width);
    std::transform(ignore, ignore + scored.size(), scored.begin(), [](uint8_t ignored) { return !ignored; });
    const Placement placement{static_cast<double>(input.height) / static_cast<double>(distances.height),
                              static_cast<double>(input.width) / static_cast<double>(distances.width), 0, 0};
    std::vector<uint8_t> ignored = any_under(scored.data(), input, distances, placement);
    for (uint8_t& pixel : ignored) pixel = !pixel;
    return ignored;
}

}  // namespace spadeline
