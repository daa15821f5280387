// How error texts show text and lists, and the bytes of file names.
#pragma once

#include <string>
#include <vector>

namespace spadeline {

// Text in quotes, cut off after 100 characters.
std::string shown(const std::string& text);

// The bytes of a file name that parse_json read: see json.hpp.
std::string file_name(const std::string& text);

// "a, b, c"
std::string listed(const std::vector<std::string>& names);

}  // namespace spadeline
