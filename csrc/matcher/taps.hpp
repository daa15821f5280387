// Where bilinear upsampling finds each finest position's feature at a coarser level. Computes positions and weights;
// touches no features.
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
