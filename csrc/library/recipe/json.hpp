// Strict JSON, and checks of single values. A failure is an InputError that names the value, what was expected and what
// came. Which fields there are is decided by the callers.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "library/errors.hpp"
#include "library/recipe/text.hpp"

namespace spadeline {

using Json = nlohmann::json;

// Parses UTF-8 text. Repeated keys, NaN, infinities and values that lie deeper than a recipe's are refused.
//
// A file name that isn't UTF-8 stands in the text as lone low surrogates, one for each byte. They become characters
// from U+F0080 to U+F00FF, since UTF-8 has none for surrogates; file_name() turns them back.
Json parse_json(std::string_view text);

// A value as an error text shows it, in Python's spelling and cut off after 100 characters.
std::string shown(const Json& value);

// The fields of a JSON object that has exactly these names. `later` are those that came after the version of the
// format, and must be missing.
class Fields {
 public:
    Fields(const Json& object, std::initializer_list<const char*> names, const std::set<std::string>& later = {});

    // Null for a field that came later.
    const Json& at(const char* name) const;

 private:
    const Json& object_;
};

// Calls read(), and puts the part's name before the text of what it throws.
template <class Read>
auto named(const std::string& name, const Read& read) {
    try {
        return read();
    } catch (const InputError& error) {
        throw InputError(name.substr(0, 100) + ": " + error.what());
    }
}

int64_t integer(const std::string& name, const Json& value, int64_t low, int64_t high);
double number(const std::string& name, const Json& value, double low = -HUGE_VAL, double high = HUGE_VAL);
// A number between 0 and 1, both excluded.
double fraction(const std::string& name, const Json& value);
std::string text(const std::string& name, const Json& value, int64_t longest = 4096);
std::string digest(const std::string& name, const Json& value);
// Text that is_utc().
std::string utc(const std::string& name, const Json& value);
const Json& array(const std::string& name, const Json& value);

// The index of one of `choices`.
template <class Choice>
Choice choice(const std::string& name, const Json& value, std::initializer_list<const char*> choices) {
    int index = 0;
    std::vector<std::string> names;
    for (const char* each : choices) {
        if (value == each) return static_cast<Choice>(index);
        names.emplace_back(each);
        ++index;
    }
    throw InputError(name + ": expected one of " + listed(names) + ", got " + shown(value));
}

void check_unique(const std::string& name, const std::vector<std::string>& values);

}  // namespace spadeline
