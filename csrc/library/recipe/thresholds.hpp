// Whether a recipe's thresholds are those that its stored scores give: see engine/calibration.py.
#pragma once

#include "library/recipe/manifest.hpp"

namespace spadeline {

// Throws InputError unless they are. The values must be equal, the bounds nearly.
void check_thresholds(const Calibration& calibration);

}  // namespace spadeline
