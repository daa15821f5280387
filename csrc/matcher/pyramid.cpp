#include "matcher/pyramid.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace spadeline {
namespace {

int64_t halved(int64_t size, int times) { return (size + (int64_t{1} << times) - 1) >> times; }

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

PyramidShape::PyramidShape(std::vector<LevelShape> levels) : levels_(std::move(levels)) {
    if (levels_.empty()) throw std::invalid_argument("levels: expected at least one, got none");
    for (size_t i = 0; i < levels_.size(); ++i) {
        const LevelShape& l = levels_[i];
        const bool finer_first = i == 0 ? l.shift == 0 : l.shift > levels_[i - 1].shift && l.shift < 16;
        if (!finer_first || l.channels < 1 || l.height < 1 || l.width < 1 ||
            l.height != halved(levels_[0].height, l.shift) || l.width != halved(levels_[0].width, l.shift))
            throw std::invalid_argument("levels: level " + std::to_string(i) +
                                        " isn't the finest one halved, rounded up, got " + std::to_string(l.height) +
                                        " x " + std::to_string(l.width));
    }
    if (levels_[0].height > INT32_MAX / levels_[0].width)
        throw std::invalid_argument("levels: expected fewer than 2^31 positions, got more");
    for (int64_t l = 0; l < level_count(); ++l) raster_.push_back(raster_of(*this, l));
}

int64_t PyramidShape::reachable(int64_t window) const {
    const LevelShape& finest = levels_[0];
    if (window < 0) return finest.height * finest.width;
    const auto fewest = [&](int64_t cells, int64_t size) {  // a query in either end cell sees least
        const int64_t side = int64_t{1} << depth(), seen = std::min(window + 1, cells);
        return std::min(std::min(seen * side, size), size - (cells - seen) * side);
    };
    return fewest(cell_rows(), finest.height) * fewest(cell_columns(), finest.width);
}

}  // namespace spadeline
