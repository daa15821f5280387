// What the kernels of images/cpu/gray.hpp are given. Plain structs, for the reason that matcher/match_task.hpp gives.
#pragma once

#include <cstdint>

namespace spadeline {

// A gray image, and which of its pixels count.
struct GrayImage {
    const uint8_t* levels;  // (height, width)
    int64_t height, width;
    // (height, width), or null if all pixels count: 1 for pixels that count, and for those whose neighbours all count,
    // too; else 0.
    const uint8_t* counted;
    const uint8_t* inner;
};

// Sums over an image.
struct GraySums {
    int64_t levels, squares;  // of the gray levels that count, and of their squares
    int64_t curves;           // of the squared Laplacian at inner pixels; beyond its border the image is mirrored
    int64_t steps;            // of the squared steps from inner pixels to the one above and to the one on the left
};

}  // namespace spadeline
