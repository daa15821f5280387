#include "matcher/arithmetic.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Not inline: a compiler doesn't move arithmetic on memory across a call that it can't look into.
namespace spadeline {
namespace {

#if defined(__x86_64__)

constexpr uint64_t kStandard =
    0x1f80;  // MXCSR: exceptions masked, rounding to nearest, denormals neither zero nor flushed

uint64_t control() { return _mm_getcsr(); }
void set_control(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }

#elif defined(__aarch64__)

constexpr uint64_t kStandard = 0;  // FPCR, with the same meaning; its flags are in another register, which isn't read

uint64_t control() {
    uint64_t value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
void set_control(uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value) : "memory"); }

#else
#error "csrc/matcher/arithmetic.cpp: expected x86-64 or 64-bit Arm"
#endif

}  // namespace

StandardArithmetic::StandardArithmetic() : callers_(control()) { set_control(kStandard); }

StandardArithmetic::~StandardArithmetic() { set_control(callers_); }

}  // namespace spadeline
