// What can be wrong with what the library is given. Each class is one code of the C interface.
#pragma once

#include <stdexcept>
#include <string>

namespace spadeline {

// An argument, or a frame, that can't be inspected.
struct InputError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A recipe that is damaged, or of another version.
struct RecipeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// An extractor that can't run, or breaks the contract.
struct ExtractorError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A device that isn't there.
struct NoDevice : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace spadeline
