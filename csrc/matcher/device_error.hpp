// A GPU that isn't there, fails or lacks memory. What it says names the call.
#pragma once

#include <stdexcept>

namespace spadeline {

struct DeviceError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace spadeline
