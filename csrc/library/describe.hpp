// Recipes and inspectors described as JSON, for people and for logs. The keys are those of Python's Detector.info where
// both say the same.
#pragma once

#include <string>

#include "library/inspector.hpp"
#include "library/loaded_recipe.hpp"

namespace spadeline {

std::string described(const LoadedRecipe& recipe);
std::string described(const Inspector& inspector);

}  // namespace spadeline
