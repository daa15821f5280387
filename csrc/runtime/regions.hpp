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

struct Region {
    int64_t area;                      // pixels of the map
    int64_t top, left, bottom, right;  // its box in pixels of the frame, half-open, rounded outwards
    int64_t peak_y, peak_x;            // of the first of its highest scores, row by row, in pixels of the frame
    float score;                       // the map's value there
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
    // Pixels of a row that lie one beside the other, and where it is the first one of a region, all of that.
    struct Run {
        int64_t parent;  // another run of its region, or itself
        int64_t row, first, last;
        int64_t area, top, left, right, bottom;
        int64_t peak;
        float score;
    };
    int64_t root(int64_t run);
    void join(int64_t a, int64_t b);

    const MapSize map_;
    std::vector<Run> runs_;
    std::vector<int64_t> found_;
    std::vector<Region> regions_;
};

// Turns a box of the map, half-open, into one of the frame: rounded outwards to whole pixels, none of them outside.
struct FrameBox {
    int64_t top, left, bottom, right;
};
FrameBox frame_box(FrameBox map_box, const Placement& placement, PictureSize frame);

}  // namespace spadeline
