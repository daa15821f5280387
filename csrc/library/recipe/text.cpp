#include "library/recipe/text.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>

namespace spadeline {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Whether text has the pattern's length and characters, but any digit where the pattern has 0.
bool is_like(std::string_view text, std::string_view pattern) {
    return std::ranges::equal(text, pattern, [](char c, char like) { return like == '0' ? is_digit(c) : c == like; });
}

int two_digits(std::string_view text, size_t at) { return 10 * (text[at] - '0') + text[at + 1] - '0'; }

}  // namespace

std::optional<int64_t> counted(std::string_view text, size_t most_digits) {
    if (text.empty() || text.size() > most_digits || text[0] == '0' || !std::ranges::all_of(text, is_digit)) return {};
    int64_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

bool is_utc(std::string_view text) {
    using namespace std::chrono;
    const std::string_view minutes = text.substr(0, 16);
    if (!is_like(minutes, "0000-00-00T00:00") && !is_like(minutes, "0000-00-00 00:00")) return false;
    const year_month_day date(year(100 * two_digits(text, 0) + two_digits(text, 2)),
                              month(static_cast<unsigned>(two_digits(text, 5))),
                              day(static_cast<unsigned>(two_digits(text, 8))));
    if (!date.ok() || date.year() < year(1) || two_digits(text, 11) > 23 || two_digits(text, 14) > 59) return false;
    std::string_view rest = text.substr(minutes.size());
    if (is_like(rest.substr(0, 3), ":00")) {
        if (two_digits(rest, 1) > 59) return false;
        rest.remove_prefix(3);
        if (rest.size() > 1 && (rest[0] == '.' || rest[0] == ',') && is_digit(rest[1]))
            rest.remove_prefix(
                static_cast<size_t>(std::find_if_not(rest.begin() + 1, rest.end(), is_digit) - rest.begin()));
    }
    return rest == "Z" || ((rest.starts_with('+') || rest.starts_with('-')) &&
                           (rest.substr(1) == "00:00" || rest.substr(1) == "0000"));
}

std::string file_name(const std::string& text) {
    std::string bytes;
    for (size_t i = 0; i < text.size();) {
        // U+F0080 to U+F00FF: F3 B0 82 80 to F3 B0 83 BF
        const bool is_byte = text.size() - i >= 4 && text.compare(i, 2, "\xf3\xb0") == 0 &&
                             (text[i + 2] == '\x82' || text[i + 2] == '\x83');
        if (is_byte) {
            bytes += static_cast<char>((text[i + 2] & 3) << 6 | (text[i + 3] & 0x3f));
        } else {
            bytes += text[i];
        }
        i += is_byte ? 4 : 1;
    }
    return bytes;
}

std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

}  // namespace spadeline
