#include "matcher/taps.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace spadeline {

std::vector<Taps> taps_of(const PyramidShape& shape, int64_t l) {
    const LevelShape& level = shape.levels()[l];
    const int64_t width = shape.levels()[0].width;
    std::vector<int32_t> position_of(level.height * level.width);
    for (int64_t i = 0; i < shape.positions(l); ++i)
        if (shape.raster(l)[i] >= 0) position_of[shape.raster(l)[i]] = static_cast<int32_t>(i);
    const auto along = [&](int64_t p, int64_t size) {
        const double at = std::clamp((static_cast<double>(p) + 0.5) / std::exp2(level.shift) - 0.5, 0.0,
                                     static_cast<double>(size - 1));
        const auto low = static_cast<int64_t>(at);
        return std::pair(low, at - static_cast<double>(low));
    };
    std::vector<Taps> taps(shape.positions(0));
    for (size_t i = 0; i < taps.size(); ++i) {
        const int64_t raster = shape.raster(0)[i];
        if (raster < 0) continue;
        const auto [y, down] = along(raster / width, level.height);
        const auto [x, right] = along(raster % width, level.width);
        for (int t = 0; t < 4; ++t) {
            const int64_t ty = std::min(y + t / 2, level.height - 1), tx = std::min(x + t % 2, level.width - 1);
            taps[i].position[t] = position_of[ty * level.width + tx];
            taps[i].weight[t] = static_cast<float>((t / 2 ? down : 1 - down) * (t % 2 ? right : 1 - right));
        }
    }
    return taps;
}

}  // namespace spadeline
