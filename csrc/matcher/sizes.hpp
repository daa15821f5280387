// Arithmetic on counts and sizes, for host and device alike.
//
// Internal linkage: the kernels' translation units must share no function with the rest of the program
// (match_task.hpp).
#pragma once

#include <cstdint>

namespace spadeline {

// Groups of `size` that it takes to hold `count`.
static constexpr int64_t ceil_div(int64_t count, int64_t size) { return (count + size - 1) / size; }

// The smallest multiple of `size` that isn't below `count`.
static constexpr int64_t round_up(int64_t count, int64_t size) { return ceil_div(count, size) * size; }

}  // namespace spadeline
