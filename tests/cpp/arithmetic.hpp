// Floating-point environments that a caller's thread may have.
#pragma once

#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spadeline {

// Sets the calling thread's control register, and returns what it held.
inline uint64_t set_arithmetic(uint64_t control) {
#if defined(__x86_64__)
    const uint64_t own = _mm_getcsr();
    _mm_setcsr(static_cast<unsigned>(control));
#else
    uint64_t own;
    asm volatile("mrs %0, fpcr\n\tmsr fpcr, %1" : "=&r"(own) : "r"(control) : "memory");
#endif
    return own;
}

// Environments that differ from the standard one: with denormals flushed to zero; rounding down, up and towards zero;
// all of these together, with traps on processors that have them.
inline std::vector<uint64_t> other_arithmetic() {
#if defined(__x86_64__)
    return {0x9fc0, 0x3f80, 0x5f80, 0x7f80, 0xe040};
#else
    return {1u << 24, 2u << 22, 1u << 22, 3u << 22, 1u << 24 | 3u << 22};
#endif
}

}  // namespace spadeline
