#include "runtime/placement.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace spadeline {
namespace {

// The paper's framing enlarges the longer side along with the shorter one. Beyond this ratio the crop shows next to
// nothing of the frame, and a very thin frame would take more memory than there is.
constexpr int kMostAspect = 16;

// Halves go to the even number, as in Python.
int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

}  // namespace

FramePlan plan_frame(Framing framing, PictureSize frame, PictureSize input) {
    const auto height = static_cast<double>(frame.height), width = static_cast<double>(frame.width);
    if (framing == Framing::whole)
        return {
            input, 0, 0, {height / static_cast<double>(input.height), width / static_cast<double>(input.width), 0, 0}};
    const int64_t enlarged_height = rounded(static_cast<double>(input.height * 8) / 7),
                  enlarged_width = rounded(static_cast<double>(input.width * 8) / 7);
    const double aspect =
        static_cast<double>(frame.height * enlarged_width) / static_cast<double>(frame.width * enlarged_height);
    if (!(1.0 / kMostAspect <= aspect && aspect <= kMostAspect))
        throw std::invalid_argument("frame: expected an aspect ratio within " + std::to_string(kMostAspect) +
                                    " times that of the input's " + std::to_string(input.height) + " x " +
                                    std::to_string(input.width) + " for framing 'paper', got " +
                                    std::to_string(frame.height) + " x " + std::to_string(frame.width));
    // Of the two terms, the larger one scales the shorter side to 8/7 of the input's and the longer side along with it.
    const PictureSize resized{std::max(enlarged_height, enlarged_width * frame.height / frame.width),
                              std::max(enlarged_width, enlarged_height * frame.width / frame.height)};
    const int64_t top = rounded(static_cast<double>(resized.height - input.height) / 2),
                  left = rounded(static_cast<double>(resized.width - input.width) / 2);
    const double scale_y = height / static_cast<double>(resized.height),
                 scale_x = width / static_cast<double>(resized.width);
    return {resized,
            top,
            left,
            {scale_y, scale_x, static_cast<double>(top) * scale_y, static_cast<double>(left) * scale_x}};
}

}  // namespace spadeline
