// The floating-point environment that bounds and distances are proven for: rounding to nearest, denormals as numbers of
// their own, no traps.
//
// The environment belongs to a thread. The caller's thread may have another one: a library that was compiled with
// -ffast-math makes the processor flush denormals to zero, and so does torch when asked to. A thread inherits its
// environment from the thread that starts it.
#pragma once

#include <cstdint>

namespace spadeline {

// While this object lives, the calling thread computes in the environment above. Its destructor gives the thread its
// own environment back, flags included. Every function that the bindings call begins with one, and so does every thread
// of the pool.
class StandardArithmetic {
 public:
    StandardArithmetic();
    StandardArithmetic(const StandardArithmetic&) = delete;
    StandardArithmetic& operator=(const StandardArithmetic&) = delete;
    ~StandardArithmetic();

 private:
    const uint64_t callers_;
};

}  // namespace spadeline
