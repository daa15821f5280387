#include "runtime/frame_shape.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace spadeline {

bool same_proportions(PictureSize a, PictureSize b) {
    return std::abs(a.height * b.width - a.width * b.height) <= std::max({a.height, a.width, b.height, b.width});
}

FrameShapes::FrameShapes(std::vector<PictureSize> known, std::optional<PictureSize> prepared) : prepared_(prepared) {
    for (const PictureSize size : known)
        if (std::find(known_.begin(), known_.end(), size) == known_.end()) known_.push_back(size);
}

std::optional<std::string> FrameShapes::complaint(PictureSize frame) const {
    if (known_.empty() || frame == prepared_) return std::nullopt;
    if (std::any_of(known_.begin(), known_.end(), [&](PictureSize size) { return same_proportions(frame, size); }))
        return std::nullopt;
    const auto text = [](PictureSize size) { return std::to_string(size.height) + " x " + std::to_string(size.width); };
    return "frame: expected the proportions of " + text(known_[0]) + ", as in fit, got " + text(frame) +
           ": was the camera's region changed? Fit anew with frames like this one, or take any with: spadeline "
           "calibrate --frame-shape any";
}

}  // namespace spadeline
