// Masks from one geometry to another: from the frame's to the input's, and from the input's to the distances'. Python's
// are these.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/placement.hpp"

namespace spadeline {

// Brings a frame's mask to the input's geometry: 1 where a frame pixel that the input pixel touches isn't 0, else 0.
std::vector<uint8_t> any_under(const uint8_t* mask, PictureSize frame, PictureSize input, const Placement& placement);

// Which pixels of the distance map need no distance: 1 for those that cover ignored pixels alone. So every scored pixel
// of the input lies on a pixel of the distance map that has a distance.
std::vector<uint8_t> ignored_distances(const uint8_t* ignore, PictureSize input, PictureSize distances);

}  // namespace spadeline
