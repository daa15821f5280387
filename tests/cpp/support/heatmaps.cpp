#include "support/heatmaps.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "matcher/aligned.hpp"

namespace spadeline {

namespace {

// Values between those of a line whose ends are repeated: the places that they are made of, and weights of sum 1.
struct Portion {
    int64_t at;
    double weight;
};
using Portions = std::vector<std::vector<Portion>>;

Portions enlarging(int64_t side, int64_t map_side) {
    Portions portions;
    for (int64_t i = 0; i < map_side; ++i) {
        const double at =
            (static_cast<double>(i) + 0.5) * static_cast<double>(side) / static_cast<double>(map_side) - 0.5;
        const double below = std::floor(at);
        const auto held = [&](double place) { return std::clamp(static_cast<int64_t>(place), int64_t{0}, side - 1); };
        portions.push_back({{held(below), 1 - (at - below)}, {held(below + 1), at - below}});
    }
    return portions;
}

Portions smoothing(int64_t side, double sigma) {
    const auto radius = static_cast<int64_t>(4 * sigma + 0.5);
    Portions portions(side);
    for (std::vector<Portion>& line : portions) {
        double sum = 0;
        const int64_t centre = &line - portions.data();
        for (int64_t i = -radius; i <= radius; ++i) {
            int64_t at = centre + i;
            while (at < 0 || at >= side) at = at < 0 ? -1 - at : 2 * side - 1 - at;
            const auto apart = static_cast<double>(i);
            line.push_back({at, i ? std::exp(-apart * apart / (2 * sigma * sigma)) : 1});
            sum += line.back().weight;
        }
        for (Portion& portion : line) portion.weight /= sum;
    }
    return portions;
}

// Both portions' sum of (height, width) values.
std::vector<double> mixed(const std::vector<double>& values, int64_t width, const Portions& down,
                          const Portions& across) {
    const auto height = static_cast<int64_t>(values.size()) / width, columns = static_cast<int64_t>(across.size());
    std::vector<double> rows(height * columns), all(down.size() * across.size());
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < columns; ++x)
            for (const Portion& portion : across[x])
                rows[y * columns + x] += portion.weight * values[y * width + portion.at];
    for (size_t y = 0; y < down.size(); ++y)
        for (const Portion& portion : down[y])
            for (int64_t x = 0; x < columns; ++x)
                all[y * columns + x] += portion.weight * rows[portion.at * columns + x];
    return all;
}

}  // namespace

std::string HeatmapCase::name() const {
    return "seed " + std::to_string(seed) + ": " + std::to_string(size.height) + " x " + std::to_string(size.width) +
           " to " + std::to_string(map.height) + " x " + std::to_string(map.width) + ", sigma " +
           std::to_string(sigma) + (root ? ", root" : "") + (ignore.empty() ? "" : ", masked") + ": ";
}

std::vector<uint8_t> random_mask(Random& random, MapSize size) {
    std::vector<uint8_t> mask(size.height * size.width);
    const int64_t sort = random.below(8);
    if (sort == 0) std::fill(mask.begin(), mask.end(), uint8_t{1});
    if (sort <= 1) return mask;
    for (int64_t i = random.upto(2); i > 0; --i) {
        const int64_t top = random.below(size.height), left = random.below(size.width);
        const int64_t bottom = top + random.upto(size.height - top), right = left + random.upto(size.width - left);
        for (int64_t y = top; y < bottom; ++y) std::fill_n(mask.begin() + y * size.width + left, right - left, 1);
    }
    if (sort > 4)
        for (uint8_t& value : mask) value ^= random.one_in(9);
    return mask;
}

std::vector<uint8_t> ignored_below(const HeatmapCase& c) {
    std::vector<uint8_t> ignored(c.size.height * c.size.width, 1);
    const auto last = [](int64_t i, int64_t side, int64_t map_side) { return ((i + 1) * side - 1) / map_side; };
    for (int64_t y = 0; y < c.map.height; ++y)
        for (int64_t x = 0; x < c.map.width; ++x) {
            if (c.ignore[y * c.map.width + x]) continue;
            for (int64_t v = y * c.size.height / c.map.height; v <= last(y, c.size.height, c.map.height); ++v)
                for (int64_t u = x * c.size.width / c.map.width; u <= last(x, c.size.width, c.map.width); ++u)
                    ignored[v * c.size.width + u] = 0;
        }
    return ignored;
}

HeatmapCase random_map(uint64_t seed) {
    Random random(seed);
    HeatmapCase c{seed, {random.upto(20), random.upto(30)}, {}, 0, random.one_in(3), {}, {}, {}, 0};
    if (random.one_in(6)) c.size.height = 1;
    if (random.one_in(6)) c.size.width = 1;
    const auto enlarged = [&](int64_t side, int64_t most) {
        return random.one_in(4) ? side : side + random.below(most);
    };
    c.map = {enlarged(c.size.height, 60), enlarged(c.size.width, random.one_in(6) ? 600 : 60)};
    const double sigmas[] = {0, 0.1, 0.4, 1.5, 4, 11, 40};
    c.sigma = sigmas[random.below(7)];
    const double scale = random.one_in(3) ? std::exp(40 * random.normal() / 3) : 1;
    for (int64_t i = 0; i < c.size.height * c.size.width; ++i)
        c.distances.push_back(random.one_in(5) ? 0 : scale * random.uniform());
    if (random.one_in(2)) {
        c.ignore = random_mask(random, c.map);
        c.ignored_distances = ignored_below(c);
        for (size_t i = 0; i < c.distances.size(); ++i)  // any value may lie there
            if (c.ignored_distances[i]) c.distances[i] = random.one_in(2) ? 1e30 : std::nan("");
    }
    c.theta = static_cast<float>((c.root ? std::sqrt(scale) : scale) * random.uniform());
    if (random.one_in(4)) c.theta = 0;  // ignored pixels are 0 and must not exceed it
    return c;
}

std::vector<double> formula(const HeatmapCase& c) {
    const Portions down = enlarging(c.size.height, c.map.height), across = enlarging(c.size.width, c.map.width);
    const Portions smooth_down = smoothing(c.map.height, c.sigma), smooth_across = smoothing(c.map.width, c.sigma);
    std::vector<double> values, scored;
    for (size_t i = 0; i < c.distances.size(); ++i) {
        scored.push_back(c.ignore.empty() || !c.ignored_distances[i]);
        values.push_back(scored[i] ? c.value(static_cast<int64_t>(i)) : 0);
    }
    std::vector<double> enlarged = mixed(values, c.size.width, down, across);
    if (c.ignore.empty()) return mixed(enlarged, c.map.width, smooth_down, smooth_across);
    const std::vector<double> portions = mixed(scored, c.size.width, down, across);
    std::vector<double> inside;
    for (size_t i = 0; i < enlarged.size(); ++i) {
        inside.push_back(!c.ignore[i]);
        enlarged[i] = c.ignore[i] ? 0 : enlarged[i] / portions[i];
    }
    std::vector<double> map = mixed(enlarged, c.map.width, smooth_down, smooth_across);
    const std::vector<double> divisor = mixed(inside, c.map.width, smooth_down, smooth_across);
    for (size_t i = 0; i < map.size(); ++i) map[i] = c.ignore[i] ? 0 : map[i] / divisor[i];
    return map;
}

double tolerance(const HeatmapCase& c) {
    double largest = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(c.distances.size()); ++i)
        if (c.ignore.empty() || !c.ignored_distances[i]) largest = std::max(largest, c.value(i));
    const double gaussians = 2 * (2 * std::floor(4 * c.sigma + 0.5) + 3);
    const double units = c.ignore.empty() ? 9 + gaussians : 4 * (9 + 8) + 1 + 2 * gaussians + 1;
    return largest * units * 0x1p-24 * 1.01 + std::numeric_limits<float>::min();
}

Heatmap heatmap_of(const Kernels& kernels, const HeatmapCase& c) {
    const bool masked = !c.ignore.empty();
    return Heatmap(kernels, c.size, c.map, c.sigma, masked ? c.ignore.data() : nullptr,
                   masked ? c.ignored_distances.data() : nullptr);
}

std::vector<float> map_of(const Heatmap& heatmap, const HeatmapCase& c, const std::vector<double>& distances,
                          ThreadPool* pool) {
    AlignedBuffer<float> workspace;
    std::vector<float> values(distances.size()), map(c.map.height * c.map.width);
    map_values(distances.data(), static_cast<int64_t>(distances.size()), c.root,
               c.ignore.empty() ? nullptr : c.ignored_distances.data(), values.data());
    heatmap.make(values.data(), map.data(), workspace.reserve(heatmap.floats()), pool);
    return map;
}

}  // namespace spadeline
