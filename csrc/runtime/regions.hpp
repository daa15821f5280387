// The mask above a threshold, and its 8-connected regions in the frame's own pixels. Python's are these.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "matcher/map_geometry.hpp"
#include "runtime/placement.hpp"

namespace spadeline {

// Writes a mask, map > theta, of `count` pixels. Theta is rounded to float32 first. Returns whether any pixel is above.
bool mask_above(const float* map, int64_t count, double theta, uint8_t* mask);

// The largest of the values, of which there is at least one. None of them is NaN.
float highest(std::span<const float> values);

struct Box {
    int64_t top, left, bottom, right;  // half-open
    bool operator==(const Box&) const = default;
};

// Turns a box of the map into one of the frame: rounded outwards to whole pixels, none of them outside.
Box frame_box(const Box& box, const Placement& placement, PictureSize frame);

struct Region {
    int64_t area;            // pixels of the map
    Box box;                 // in pixels of the frame
    int64_t peak_y, peak_x;  // of the first of its highest scores, row by row, in pixels of the frame
    float score;             // the map's value there
    bool operator==(const Region&) const = default;
};

// Finds the regions of maps of one size. One caller at a time; no call allocates.
class RegionFinder {
 public:
    explicit RegionFinder(MapSize map);

    // The regions of a (H, W) mask, whose bytes are 0 or 1, highest score first; those of equal scores by the peak's
    // position, row by row. The map has no NaN where the mask is 1. Valid until the next call.
    std::span<const Region> find(const float* map, const uint8_t* mask, const Placement& placement, PictureSize frame);

 private:
    // Pixels that lie side by side in a row. A region is a tree of them, and its first run in raster order is the root,
    // which also holds what is said of the region.
    struct Run {
        int64_t parent;  // a run before it in its region; a root's is itself
        int64_t row, first, end;
        float highest;  // of its own pixels
        float score;    // the region's
        int64_t area;   // the region's
        Box box;        // the region's, in the map
        int64_t peak;   // the region's, as y * W + x; -1: not found yet
    };
    void add_runs(const float* map, const uint8_t* mask, int64_t row);
    void join_rows(int64_t upper, int64_t lower);
    int64_t root(int64_t run);
    void join(int64_t a, int64_t b);

    const MapSize map_;
    std::vector<Run> runs_;
    std::vector<int64_t> roots_;
    std::vector<Region> regions_;
};

}  // namespace spadeline
