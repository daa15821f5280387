// The proportions that a recipe's frames may have. A frame of another size is resized and compared as usual; one of
// other proportions shows another region, or stretched parts. Whether that is an error, a warning or nothing is the
// caller's business. Python asks the same class.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "images/area.hpp"

namespace spadeline {

// Whether one size may be the other one scaled, as exactly as whole pixels can tell. If b is a scaled, and each side of
// b is off by half a pixel from rounding, or both by less than a pixel from cutting off, then
// |a.height * b.width - a.width * b.height| is at most the longest side. Sides are at most 2^31.
bool same_proportions(PictureSize a, PictureSize b);

class FrameShapes {
 public:
    // `known`: sizes of the known frames; with none, any frame is accepted. `prepared`: a size that is always accepted,
    // for frames that were resized to the extractor's input beforehand.
    FrameShapes(std::vector<PictureSize> known, std::optional<PictureSize> prepared);

    // What is wrong with a frame of this size, as one sentence; nothing if its proportions are those of a known frame.
    std::optional<std::string> complaint(PictureSize frame) const;

 private:
    std::vector<PictureSize> known_;
    const std::optional<PictureSize> prepared_;
};

}  // namespace spadeline
