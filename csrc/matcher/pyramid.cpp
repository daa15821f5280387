#include "matcher/pyramid.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

constexpr int kMostHalvings = 15;  // a cell then has 4^15 positions: 4^16 would leave 32 bits

std::vector<int64_t> raster_of(const PyramidShape& shape, int64_t level) {
    const LevelShape& l = shape.levels()[level];
    const int depth = shape.depth() - l.shift;
    std::vector<int64_t> raster(shape.positions(level));
    for (int64_t i = 0; i < static_cast<int64_t>(raster.size()); ++i) {
        const int64_t cell = i >> (2 * depth);
        int64_t y = cell / shape.cell_columns(), x = cell % shape.cell_columns();
        for (int bit = depth - 1; bit >= 0; --bit) {
            y = 2 * y + ((i >> (2 * bit + 1)) & 1);
            x = 2 * x + ((i >> (2 * bit)) & 1);
        }
        raster[i] = y < l.height && x < l.width ? y * l.width + x : PyramidShape::kPadding;
    }
    return raster;
}

}  // namespace

PyramidShape::PyramidShape(int64_t height, int64_t width, const std::vector<LevelKind>& levels) {
    if (levels.empty()) throw std::invalid_argument("levels: expected at least one, got none");
    if (height < 1 || width < 1 || height > INT32_MAX / width)
        throw std::invalid_argument("levels: expected a finest level of 1 to 2^31 - 1 positions, got " +
                                    std::to_string(height) + " x " + std::to_string(width));
    for (size_t i = 0; i < levels.size(); ++i) {
        const auto& [channels, shift] = levels[i];
        const bool finer_first = i == 0 ? shift == 0 : shift > levels[i - 1].shift && shift <= kMostHalvings;
        if (!finer_first || channels < 1)
            throw std::invalid_argument("levels: expected channels, and halvings that begin with 0 and increase, got " +
                                        std::to_string(channels) + " channels and " + std::to_string(shift) +
                                        " halvings at level " + std::to_string(i));
        const int64_t side = int64_t{1} << shift;
        levels_.push_back({channels, ceil_div(height, side), ceil_div(width, side), shift});
    }
    for (int64_t l = 0; l < level_count(); ++l) raster_.push_back(raster_of(*this, l));
}

int64_t PyramidShape::reachable(std::optional<int64_t> window) const {
    const LevelShape& finest = levels_[0];
    if (!window) return finest.pixels();
    const auto fewest = [&](int64_t cells, int64_t size) {  // a query in the first or the last cell sees least
        const int64_t side = int64_t{1} << depth(), seen = std::min(*window + 1, cells);
        return std::min(std::min(seen * side, size), size - (cells - seen) * side);
    };
    return fewest(cell_rows(), finest.height) * fewest(cell_columns(), finest.width);
}

double PyramidShape::dense_cost(std::optional<int64_t> window, int64_t images) const {
    double work = 0;
    for (int64_t l = 0; l < level_count(); ++l)
        work += static_cast<double>(block(l)) * static_cast<double>(positions(l) * levels_[l].channels);
    if (window)  // rows of cells outside it are skipped
        work *= std::min(1.0, (2.0 * static_cast<double>(*window) + 1) / static_cast<double>(cell_rows()));
    return work * static_cast<double>(images);
}

}  // namespace spadeline
