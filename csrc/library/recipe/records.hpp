// What a recipe records apart from its settings: thresholds with their scores, images, and why its settings were
// chosen.
#pragma once

#include "library/recipe/manifest.hpp"

namespace spadeline {

// Each throws InputError. `later`: fields that came after the version of the format.
Calibration calibration_of(const Json& content, const std::set<std::string>& later);
std::vector<ImageRecord> images_of(const Json& content, const std::set<std::string>& later);
void check_tuning(const Json& content);

}  // namespace spadeline
