// Three numbers of an image, in gray and at the size of the extractor's input, so that frames can be compared with the
// normal images. Which numbers a frame may have is decided in frame_check.hpp. Python's frame_facts is this one.
#pragma once

#include <cstdint>
#include <vector>

#include "images/area.hpp"
#include "matcher/match_task.hpp"

namespace spadeline {

struct FrameFacts {
    double brightness;  // mean gray level, 0 to 255
    double contrast;    // standard deviation of the gray levels
    // Mean squared Laplacian, divided by the sum of the mean squared steps to the next pixel in y and in x, each
    // without the part that rounding adds. White noise has 5, a sharp picture about 2, a constant one 0.
    double sharpness;
    bool operator==(const FrameFacts&) const = default;
};

// Measures images of one size. One caller at a time; no call allocates.
class FactsMeter {
 public:
    // `ignore`, (H, W) or null, isn't zero at pixels that are left out; it is read here alone.
    FactsMeter(const Kernels& kernels, PictureSize size, const uint8_t* ignore);

    // The facts of an (H, W, 3) RGB image, each to six digits.
    FrameFacts measure(const uint8_t* rgb);

 private:
    const Kernels& kernels_;
    const PictureSize size_;
    std::vector<uint8_t> counted_, inner_;  // (H, W), or empty: see images/gray_task.hpp
    int64_t counted_pixels_, inner_pixels_;
    std::vector<uint8_t> gray_;  // (H, W)
};

}  // namespace spadeline
