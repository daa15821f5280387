// What the kernels of the anomaly map are given: see heatmap.hpp. Plain structs, for the reason that match_task.hpp
// gives.
#pragma once

#include <cstdint>

namespace spadeline {

// Where a pixel lies between two others: its value is (1 - part) * first + part * next. At the border `part` is 0, and
// there may be no next pixel.
struct Place {
    int32_t first;
    float part;
};

// Rows of the map that registers sum up at a time, at most.
inline constexpr int kMapRows = 4;

// Lines of registers: `columns`, the map's width in whole panels of kPanel pixels. Pixels that pad a line have numbers,
// which nothing reads.
struct MapTask {
    int64_t height, width;          // of the distances
    int64_t map_height, map_width;  // of the map
    int64_t columns;
    int64_t stride;          // from one smoothed row to the next
    int64_t radius;          // of the Gaussian
    const Place* place_y;    // (map_height), in the distances
    const int32_t* first_x;  // (columns): the first of a pixel's two distances; ascending, by one at most
    const float* part_x;     // (columns): what the next distance weighs
    const float* rest_x;     // (columns): what the first distance weighs, 1 - part_x
    const float* weights;    // (2 radius + 1), with kMapRows - 1 zeros before and after them
    const int64_t*
        rows_y;  // (map_height + 2 radius + kMapRows - 1): the row that stands `radius` rows before, mirrored
    // Divisors, null if all is scored. Where a pixel is ignored they are infinite, so that it becomes 0.
    const float* enlarged_divisor;  // (map_height, columns)
    const float* divisor;           // (map_height, map_width)
};

}  // namespace spadeline
