// What the kernels that shrink a picture are given: see area.hpp. Plain structs, for the reason that
// matcher/match_task.hpp gives.
#pragma once

#include <cstdint>

namespace spadeline {

// Rows of the frame whose pixels are summed along x together. Four gray rows fill the four lanes that a colour pixel
// has.
inline constexpr int64_t kAreaRows = 4;

// A *slot* is the place of one column of the picture among the registers. There are whole blocks of `lanes` slots;
// those that are left over have weights of 0.
struct AreaTask {
    int64_t width;     // of the frame, in pixels
    int64_t channels;  // of the frame: 1, 3, or 4, of which the picture gets three
    int64_t columns;   // of the picture
    // Along x: the slot's column is the sum of `taps` pixels in a row, each with its weight, which may be 0.
    int64_t slots, taps;
    const int32_t* at;     // (slots): bytes before the first pixel, in a line; a gray line has four bytes a pixel
    const float* weights;  // each one in four lanes, in the order of their use
    int64_t read;          // bytes of a line that are read, at most: more than it has
    // Along y: row y is the sum of the frame's rows from first_row[y] on.
    const int64_t* first_row;  // (rows of the picture)
    const int64_t* row_count;  // (rows of the picture)
    const float* row_weights;  // (rows of the picture, row_taps)
    int64_t row_taps;
    float scale;  // a sum becomes the byte nearest to sum * scale, of two the even one
    bool halves;  // a pixel is the mean of two by two: of two bytes as near, it becomes the larger one
};

// Where the frame and the picture lie.
struct AreaFrame {
    const uint8_t* pixels;
    int64_t pitch;       // bytes from one row to the next
    const uint8_t* end;  // behind the last row
    uint8_t* out;        // the picture, C-contiguous
};

}  // namespace spadeline
