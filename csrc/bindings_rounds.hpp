// The rounds' part of the Python class of the CPU's matcher.
#pragma once

#include "bindings.hpp"
#include "matcher/matcher.hpp"

namespace spadeline {

void define_rounds(py::class_<PyMatcher<Matcher>>& matcher);

}  // namespace spadeline
