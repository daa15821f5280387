// Enlarges a picture by linear interpolation between pixel centres, as OpenCV's INTER_LINEAR computes it for bytes, to
// the same bytes (csrc/README.md, "Frames"). No side may shrink: see area.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "images/area.hpp"

namespace spadeline {

// What no picture of a size changes. Any number of threads may enlarge pictures with one.
class LinearResize {
 public:
    // `channels` is 1 or 3, the picture's and the result's. No side of `out` is smaller than the picture's.
    LinearResize(PictureSize picture, PictureSize out, int64_t channels);

    // Integers of workspace that `make` needs: two rows of the result, before they are mixed.
    int64_t integers() const { return 2 * out_.width * channels_; }
    // From the C-contiguous picture to rows [first, last) of the result, C-contiguous from row `first` on.
    void make(const uint8_t* pixels, int64_t first, int64_t last, uint8_t* out, int32_t* workspace) const;

 private:
    // A result's pixel is mixed from the pixels at and at + 1 of a line; weights in units of 1 / 2048.
    struct Mix {
        int64_t at, next;
        int32_t weight, rest;
    };
    static std::vector<Mix> mixes(int64_t length, int64_t target, bool clamp_weights);
    void enlarge_row(const uint8_t* row, int32_t* out) const;

    const PictureSize picture_, out_;
    const int64_t channels_;
    std::vector<Mix> rows_, columns_;
};

}  // namespace spadeline
