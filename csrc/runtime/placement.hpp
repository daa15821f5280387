// Where the extractor's input lies in a frame, and how large a frame is made for it. No pixels here.
#pragma once

#include <cstdint>

#include "images/area.hpp"

namespace spadeline {

// A scale such as 1024 / 224 is rounded, so that an edge on a whole pixel may miss it by less than this.
inline constexpr double kEdgeRounding = 1e-6;

struct FramePoint {
    double y, x;
};

// frame = (input + 0.5) * scale + offset - 0.5. Coordinates are those of pixel centres: the first pixel spans -0.5 to
// 0.5.
struct Placement {
    double scale_y, scale_x;  // frame pixels per input pixel
    double top, left;         // the input's upper left corner, in frame pixels from the frame's own corner

    // Where the input's point (y, x) lies in the frame.
    FramePoint to_frame(double y, double x) const {
        return {(y + 0.5) * scale_y + top - 0.5, (x + 0.5) * scale_x + left - 0.5};
    }
    bool operator==(const Placement&) const = default;
};

enum class Framing {
    whole,  // the whole frame is used, each side scaled on its own
    paper,  // proportions are kept, the relatively shorter side becomes 8/7 of the input's, the centre is cut out
};

// What a frame of one size is resized to, and which part of that is the input.
struct FramePlan {
    PictureSize resized;
    int64_t top, left;  // of the input in the resized frame
    Placement placement;
};

// Throws std::invalid_argument for a frame too long and thin for the paper's framing.
FramePlan plan_frame(Framing framing, PictureSize frame, PictureSize input);

}  // namespace spadeline
