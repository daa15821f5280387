// The taps of bilinear upsampling: from which positions of a coarser level, and with which weights, each finest
// position's feature is made. Computes positions and weights; reads no features.
#pragma once

#include <cstdint>
#include <vector>

#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"

namespace spadeline {

// (finest positions), all zeros where padded. Half-pixel centres: finest pixel y lies at (y + 0.5) / 2^shift - 0.5 of
// the level, clamped to its edge.
std::vector<Taps> taps_of(const PyramidShape& shape, int64_t l);

}  // namespace spadeline
