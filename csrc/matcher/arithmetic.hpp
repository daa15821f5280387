// The floating-point environment that bounds and distances are proven for: rounding to nearest, denormals as numbers of
// their own, no traps.
//
// It belongs to a thread, and the caller's may be another one: a library that was compiled with -ffast-math, or torch
// when asked to, has the processor flush denormals to zero, and threads inherit that from the one that started them.
#pragma once

#include <cstdint>

namespace spadeline {

// As long as it lives, the calling thread computes in that environment; then in its own again, flags included. Whatever
// a door calls begins with one, and so does every thread of the pool.
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
