// Numbers and times in text, how error texts show text and lists, and the bytes of file names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spadeline {

// Text in quotes, cut off after 100 characters: as json.hpp shows it.
std::string shown(const std::string& text);

// The bytes of a file name that parse_json read: see json.hpp.
std::string file_name(const std::string& text);

// Text that is a whole number from 1 on, without zeros before it, of at most so many digits, 18 or fewer; nothing for
// other text.
std::optional<int64_t> counted(std::string_view text, size_t most_digits);

// A time in UTC as ISO 8601 with date, time and offset.
bool is_utc(std::string_view text);

// "a, b, c"
std::string listed(const std::vector<std::string>& names);

}  // namespace spadeline
