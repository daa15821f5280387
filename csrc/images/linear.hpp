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

    // Words of workspace that `make` needs.
    int64_t words() const { return 2 * out_.width * channels_; }
    // From the picture to the larger one, both C-contiguous.
    void make(const uint8_t* pixels, uint8_t* out, int16_t* workspace) const;

 private:
    // A pixel is mixed from two of a line, with weights in units of 1 / 2048.
    struct Mix {
        int64_t at, next;
        int32_t first, second;
    };
    // `clamped`: at the ends, one pixel alone makes the result; else the same pixel is taken twice, which may differ in
    // the last bit.
    static std::vector<Mix> mixes(int64_t length, int64_t target, bool clamped);
    template <int kChannels>
    void enlarge_row(const uint8_t* row, int16_t* out) const;

    const PictureSize picture_, out_;
    const int64_t channels_;
    const std::vector<Mix> rows_, columns_;
};

}  // namespace spadeline
