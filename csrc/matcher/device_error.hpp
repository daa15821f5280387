// The error of a GPU that isn't there, fails or lacks memory. Its text names the call that failed.
#pragma once

#include <stdexcept>

namespace spadeline {

struct DeviceError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace spadeline
