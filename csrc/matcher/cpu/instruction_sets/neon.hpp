// NEON registers. Included by one file for each kind of byte product. The dense path's tile fills 28 of the 32
// registers, as that of avx512.hpp does, and for the same reason.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "matcher/codes.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"

namespace spadeline {
namespace {

struct Neon {
    using Reg = float32x4_t;
    using Reg64 = float64x2_t;
    static constexpr int lanes = 4, vectors = 3, rows = 8, lanes_f64 = 2, registers = 32;

    static Reg load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, Reg a) { vst1q_f32(p, a); }
    static Reg broadcast(const float* p) { return vld1q_dup_f32(p); }
    static Reg broadcast_value(float value) { return vdupq_n_f32(value); }
    static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return vfmaq_f32(sum, a, b); }
    static uint32_t not_above(Reg a, Reg b) { return vmaxvq_u32(vmvnq_u32(vcgtq_f32(a, b))); }
    static Reg expand(const float* base, int64_t position, int halvings) {
        return halvings == 0 ? load(base + position) : broadcast(base + (position >> (2 * halvings)));
    }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) store(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half + i))));
        for (; i < n; ++i) out[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half[i]))), 0);
    }

    static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
    static Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
    static Reg max(Reg a, Reg b) { return vmaxnmq_f32(a, b); }
    static float reduce(Reg a) { return vaddvq_f32(a); }
    static float reduce_max(Reg a) { return vmaxnmvq_f32(a); }
    static Reg round(Reg a) { return vrndnq_f32(a); }
    static void store_bytes(int8_t* p, Reg a) {
        const int16x4_t words = vmovn_s32(vcvtq_s32_f32(a));
        const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
        vst1_lane_s32(reinterpret_cast<int32_t*>(p), vreinterpret_s32_s8(bytes), 0);
    }
    static Reg sqrt(Reg a) { return vsqrtq_f32(a); }
    static Reg positive(Reg a) { return vmaxnmq_f32(a, vdupq_n_f32(0)); }
    static uint32_t at_most(Reg a, Reg b) {
        const uint32x4_t bits = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcleq_f32(a, b), bits));
    }
    static Reg tile4(const float* p) { return load(p); }
    static Reg repeat4(const float* p) { return broadcast(p); }

    // The products take signed bytes, so the gallery's bytes become signed, and no offset is left to subtract.
    static constexpr int32_t byte_offset = 0;
    using Int = int32x4_t;
    using Codes = int8x16_t;
    static Int load_int(const int32_t* p) { return vld1q_s32(p); }
    static Int broadcast_int(int32_t value) { return vdupq_n_s32(value); }
    static Int sub_int(Int a, Int b) { return vsubq_s32(a, b); }
    static Reg to_float(Int a) { return vcvtq_f32_s32(a); }
    static Reg pick(const float* p, Int index) {  // a lane's four bytes are numbers 4 index to 4 index + 3
        const int32x4_t bytes = vaddq_s32(vmulq_n_s32(index, 0x04040404), vdupq_n_s32(0x03020100));
        return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(load(p)), vreinterpretq_u8_s32(bytes)));
    }
    static Codes gallery_codes(const uint8_t* p) {
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(kByteOffset)));
    }
    static Codes broadcast_codes(const uint8_t* p) {
        const uint32x4_t bytes = vld1q_dup_u32(reinterpret_cast<const uint32_t*>(p));
        return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u32(bytes), vdupq_n_u8(kByteOffset)));
    }
    static Codes four_bytes(const int8_t* p) {
        return vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const int32_t*>(p)));
    }

    using Windows = uint8x16_t;
    static Windows windows(const uint8_t* p, const int32_t* at) { return vld1q_u8(p + *at); }
    template <int bytes, int pixel>
    static Reg pixels(Windows w) {
        const int32x4_t from = {lane_byte(bytes, pixel, 0), lane_byte(bytes, pixel, 1), lane_byte(bytes, pixel, 2),
                                lane_byte(bytes, pixel, 3)};
        return vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(w, vreinterpretq_u8_s32(from))));
    }
    static void turn4(Reg* r) {
        const Reg even = vtrn1q_f32(r[0], r[1]), odd = vtrn2q_f32(r[0], r[1]);
        const Reg next_even = vtrn1q_f32(r[2], r[3]), next_odd = vtrn2q_f32(r[2], r[3]);
        const auto halves = [](Reg a) { return vreinterpretq_f64_f32(a); };
        r[0] = vreinterpretq_f32_f64(vzip1q_f64(halves(even), halves(next_even)));
        r[1] = vreinterpretq_f32_f64(vzip1q_f64(halves(odd), halves(next_odd)));
        r[2] = vreinterpretq_f32_f64(vzip2q_f64(halves(even), halves(next_even)));
        r[3] = vreinterpretq_f32_f64(vzip2q_f64(halves(odd), halves(next_odd)));
    }
    static void store_pixels(uint8_t* p, Reg a) {
        const uint16x4_t words = vqmovn_u32(vcvtnq_u32_f32(a));
        const uint32x2_t bytes = vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words)));
        vst1_lane_u8(p, vreinterpret_u8_u32(bytes), 0);
        vst1_lane_u8(p + 1, vreinterpret_u8_u32(bytes), 1);
        vst1_lane_u8(p + 2, vreinterpret_u8_u32(bytes), 2);
        vst1_lane_u8(p + 3, vreinterpret_u8_u32(bytes), 3);
    }

    static Reg64 zero64() { return vdupq_n_f64(0); }
    static Reg64 broadcast64(double value) { return vdupq_n_f64(value); }
    static Reg64 load64(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
    static Reg64 add64(Reg64 a, Reg64 b) { return vaddq_f64(a, b); }
    static Reg64 sub64(Reg64 a, Reg64 b) { return vsubq_f64(a, b); }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return vfmaq_f64(sum, a, b); }
    static double reduce64(Reg64 a) { return vaddvq_f64(a); }
};

}  // namespace
}  // namespace spadeline
