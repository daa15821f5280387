// The geometry of a feature pyramid in the cell-blocked layout. Computes positions; touches no features.
//
// A cell is one position of the coarsest level. Every level stores its cells in raster order and, within a cell, its
// 4^depth positions in Morton order. So position i of a level lies under position i >> 2k of a level k halvings
// coarser: the matcher's only index arithmetic. Sizes that aren't whole cells are padded; `raster` marks the padding.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace spadeline {

// What a level has of its own: its size follows from the finest level's.
struct LevelKind {
    int64_t channels = 0;
    int shift = 0;  // halvings from the finest level to this one
};

struct LevelShape {
    int64_t channels = 0;
    int64_t height = 0;
    int64_t width = 0;
    int shift = 0;  // halvings from the finest level to this one

    int64_t pixels() const { return height * width; }
};

class PyramidShape {
 public:
    static constexpr int64_t kPadding = -1;

    // `height` and `width` are the finest level's. Each other level is the finest one halved `shift` times, each time
    // rounded up. Throws std::invalid_argument unless shifts begin with 0 and increase.
    PyramidShape(int64_t height, int64_t width, const std::vector<LevelKind>& levels);

    const std::vector<LevelShape>& levels() const { return levels_; }
    int64_t level_count() const { return static_cast<int64_t>(levels_.size()); }
    int depth() const { return levels_.back().shift; }
    int64_t cell_rows() const { return levels_.back().height; }
    int64_t cell_columns() const { return levels_.back().width; }
    int64_t cells() const { return cell_rows() * cell_columns(); }
    // Positions of one level in one cell, and in one image (padding included).
    int64_t block(int64_t level) const { return int64_t{1} << (2 * (depth() - levels_[level].shift)); }
    int64_t positions(int64_t level) const { return cells() * block(level); }
    // y * width + x of each position of a level, kPadding where it lies outside.
    const std::vector<int64_t>& raster(int64_t level) const { return raster_[level]; }
    // Pixels of the finest level that lie within `window` cells of the pixel that has fewest; without a window all.
    // Times the images of a query this is the largest kappa.
    int64_t reachable(std::optional<int64_t> window) const;
    // Multiply-adds that the dense path takes for one cell of a query that is matched with so many images.
    double dense_cost(std::optional<int64_t> window, int64_t images) const;

 private:
    std::vector<LevelShape> levels_;
    std::vector<std::vector<int64_t>> raster_;
};

}  // namespace spadeline
