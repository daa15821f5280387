// NEON, every 64-bit Arm core: 24 of 32 registers hold sums.
#include "matcher/cpu/kernels.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "matcher/cpu/dense.hpp"

namespace spadeline {
namespace {

struct Neon {
    using Reg = float32x4_t;
    using Reg64 = float64x2_t;
    static constexpr int lanes = 4, vectors = 3, rows = 8, lanes_f64 = 2;

    static Reg load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, Reg a) { vst1q_f32(p, a); }
    static Reg broadcast(const float* p) { return vld1q_dup_f32(p); }
    static Reg broadcast_value(float value) { return vdupq_n_f32(value); }
    static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return vfmaq_f32(sum, a, b); }
    // Not zero where some lane has a <= b, or either is NaN.
    static uint32_t not_above(Reg a, Reg b) { return vmaxvq_u32(vmvnq_u32(vcgtq_f32(a, b))); }
    // Lane i gets base[(position + i) >> 2 * halvings].
    static Reg expand(const float* base, int64_t position, int halvings) {
        return halvings == 0 ? load(base + position) : broadcast(base + (position >> (2 * halvings)));
    }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) store(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half + i))));
        for (; i < n; ++i) out[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half[i]))), 0);
    }

    static Reg64 zero64() { return vdupq_n_f64(0); }
    static Reg64 broadcast64(double value) { return vdupq_n_f64(value); }
    static Reg64 load64(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
    static Reg64 add64(Reg64 a, Reg64 b) { return vaddq_f64(a, b); }
    static Reg64 sub64(Reg64 a, Reg64 b) { return vsubq_f64(a, b); }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return vfmaq_f64(sum, a, b); }
    static double reduce64(Reg64 a) { return vaddvq_f64(a); }
};

bool supported() { return true; }

}  // namespace

const Kernels* neon_kernels() {
    static constexpr Kernels kernels{"neon", supported, Dense<Neon>::share_floats, Dense<Neon>::match};
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::neon_kernels() { return nullptr; }
#endif
