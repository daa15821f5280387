#include "library/recipe/json.hpp"

#include <algorithm>

namespace spadeline {
namespace {

constexpr size_t kDeepest = 32;  // a recipe's values lie up to five deep
constexpr size_t kLongestShown = 100;

// The code unit of an escape "\uXXXX" that begins at `at`, or -1.
int unit_at(std::string_view text, size_t at) {
    if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return -1;
    int unit = 0;
    for (size_t i = at + 2; i < at + 6; ++i) {
        const char c = text[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

// Puts a high surrogate before each lone low one that stands for a byte of a file name.
std::string paired(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const int unit = unit_at(text, i);
        size_t length = 1;
        if (unit >= 0xdc80 && unit <= 0xdcff) result += "\\udb80";
        if (unit >= 0) {
            const int next = unit_at(text, i + 6);
            length = unit >= 0xd800 && unit <= 0xdbff && next >= 0xdc00 && next <= 0xdfff ? 12 : 6;
        } else if (text[i] == '\\' && i + 1 < text.size()) {
            length = 2;
        }
        result += text.substr(i, length);
        i += length;
    }
    return result;
}

int64_t characters(const std::string& text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; });
}

std::string cut(std::string text) {
    if (text.size() <= kLongestShown) return text;
    size_t end = kLongestShown;
    while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;  // not within a character
    return text.substr(0, end);
}

// Appends a value until there is more than can be shown: a value may be as large as its file.
void append(std::string& text, const Json& value) {
    if (text.size() > kLongestShown) return;
    if (value.is_null()) {
        text += "None";
    } else if (value.is_boolean()) {
        text += value.get<bool>() ? "True" : "False";
    } else if (value.is_string()) {
        text.append("'").append(value.get_ref<const std::string&>(), 0, kLongestShown).append("'");
    } else if (value.is_structured()) {
        text += value.is_array() ? "[" : "{";
        bool first = true;
        for (const auto& [key, part] : value.items()) {
            if (text.size() > kLongestShown) return;
            if (!first) text += ", ";
            if (value.is_object()) text.append("'").append(key, 0, kLongestShown).append("': ");
            append(text, part);
            first = false;
        }
        text += value.is_array() ? "]" : "}";
    } else {
        text += value.dump();
    }
}

std::string in_limits(double low, double high) {
    if (low == -HUGE_VAL) return "";
    char limits[80];
    if (high == HUGE_VAL) {
        std::snprintf(limits, sizeof limits, " of %g or more", low);
    } else {
        std::snprintf(limits, sizeof limits, " from %g to %g", low, high);
    }
    return limits;
}

}  // namespace

Json parse_json(std::string_view text) {
    std::vector<std::set<std::string>> keys;  // of the objects that are open
    const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth > static_cast<int>(kDeepest)) throw InputError("expected strict JSON: it is nested too deeply");
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        if (event == Json::parse_event_t::object_end) keys.pop_back();
        if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
            throw InputError("keys: " + shown(parsed) + " comes twice");
        return true;
    };
    if (text.substr(0, 3) == "\xef\xbb\xbf") throw InputError("expected strict JSON: it begins with a byte order mark");
    try {
        return Json::parse(paired(text), check);
    } catch (const Json::exception& error) {
        const std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at line 1, …"
        const size_t code = reason.find("] ");
        throw InputError("expected strict JSON: " +
                         cut(reason.substr(code == std::string::npos ? 0 : code + 2, 2 * kLongestShown)));
    }
}

std::string shown(const Json& value) {
    std::string text;
    append(text, value);
    return cut(text);
}

std::string shown(const std::string& text) { return shown(Json(text)); }

Fields::Fields(const Json& object, std::initializer_list<const char*> names, const std::set<std::string>& later)
    : object_(object) {
    if (!object.is_object()) throw InputError("expected an object, got " + shown(object));
    std::set<std::string> known;
    for (const char* name : names)
        if (!later.contains(name)) known.insert(name);
    for (const std::string& name : known)
        if (!object.contains(name)) throw InputError(name + " is missing");
    for (const auto& [name, part] : object.items())
        if (!known.contains(name)) throw InputError(shown(name) + " is unknown");
}

const Json& Fields::at(const char* name) const {
    static const Json missing;
    const auto found = object_.find(name);
    return found == object_.end() ? missing : *found;
}

int64_t integer(const std::string& name, const Json& value, int64_t low, int64_t high) {
    // An unsigned number that int64_t can't hold must not become a negative one.
    const bool whole = value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
    if (!whole || value.get<int64_t>() < low || value.get<int64_t>() > high)
        throw InputError(name + ": expected an integer from " + std::to_string(low) + " to " + std::to_string(high) +
                         ", got " + shown(value));
    return value.get<int64_t>();
}

double number(const std::string& name, const Json& value, double low, double high) {
    const double found = value.is_number() ? value.get<double>() : NAN;
    if (!(std::isfinite(found) && low <= found && found <= high))
        throw InputError(name + ": expected a finite number" + in_limits(low, high) + ", got " + shown(value));
    return found;
}

double fraction(const std::string& name, const Json& value) {
    const double found = number(name, value);
    if (!(0 < found && found < 1))
        throw InputError(name + ": expected a number between 0 and 1, both excluded, got " + shown(value));
    return found;
}

std::string text(const std::string& name, const Json& value, int64_t longest) {
    const int64_t length = value.is_string() ? characters(value.get_ref<const std::string&>()) : 0;
    if (length < 1 || length > longest)
        throw InputError(name + ": expected text of 1 to " + std::to_string(longest) + " characters, got " +
                         shown(value));
    return value.get<std::string>();
}

std::string digest(const std::string& name, const Json& value) {
    const std::string found = value.is_string() ? value.get<std::string>() : "";
    if (found.size() != 64 || found.find_first_not_of("0123456789abcdef") != std::string::npos)
        throw InputError(name + ": expected 64 hexadecimal digits, got " + shown(value));
    return found;
}

std::string utc(const std::string& name, const Json& value) {
    const std::string found = text(name, value, 100);
    if (!is_utc(found)) throw InputError(name + ": expected a time in UTC as ISO 8601, got " + shown(value));
    return found;
}

const Json& array(const std::string& name, const Json& value) {
    if (!value.is_array()) throw InputError(name + ": expected a list, got " + shown(value));
    return value;
}

void check_unique(const std::string& name, const std::vector<std::string>& values) {
    std::set<std::string_view> seen;
    for (const std::string& value : values)
        if (!seen.insert(value).second) throw InputError(name + ": " + shown(value) + " comes twice");
}

}  // namespace spadeline
