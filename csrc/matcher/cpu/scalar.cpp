// Plain C++: always built, always tested, the yardstick of every other instruction set.
#include "matcher/cpu/dense.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/half.hpp"

namespace spadeline {
namespace {

struct Scalar {
    using Reg = float;
    using Reg64 = double;
    static constexpr int lanes = 1, vectors = 4, rows = 2, lanes_f64 = 1;

    static Reg load(const float* p) { return *p; }
    static void store(float* p, Reg a) { *p = a; }
    static Reg broadcast(const float* p) { return *p; }
    static Reg broadcast_value(float value) { return value; }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg fma(Reg a, Reg b, Reg sum) { return a * b + sum; }
    static uint32_t not_above(Reg a, Reg b) { return !(a > b); }
    static Reg expand(const float* base, int64_t position, int halvings) { return base[position >> (2 * halvings)]; }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        for (int64_t i = 0; i < n; ++i) out[i] = half_to_float(half[i]);
    }

    static Reg64 zero64() { return 0; }
    static Reg64 broadcast64(double value) { return value; }
    static Reg64 load64(const float* p) { return *p; }
    static Reg64 add64(Reg64 a, Reg64 b) { return a + b; }
    static Reg64 sub64(Reg64 a, Reg64 b) { return a - b; }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return a * b + sum; }
    static double reduce64(Reg64 a) { return a; }
};

bool supported() { return true; }

}  // namespace

const Kernels* scalar_kernels() {
    static constexpr Kernels kernels{"scalar", supported, Dense<Scalar>::share_floats, Dense<Scalar>::match};
    return &kernels;
}

}  // namespace spadeline
