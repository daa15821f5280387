// AVX-512 registers (F, BW, DQ, VL). Included by one file for each kind of byte product.
//
// Of the 32 registers the dense path's tile fills 28: 8 rows by 3 vectors are 24 sums, 3 hold queries, and one a
// gallery value. A ninth row would fit, too, but 8 divides the positions of a cell of three levels, 16, so that no rows
// are left over for the slower tile of one row.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "matcher/cpu/instruction_sets/instruction_set.hpp"

namespace spadeline {
namespace {

struct Avx512 {
    using Reg = __m512;
    using Reg64 = __m512d;
    static constexpr int lanes = 16, vectors = 3, rows = 8, lanes_f64 = 8, registers = 32;

    static Reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
    static Reg broadcast(const float* p) { return _mm512_set1_ps(*p); }
    static Reg broadcast_value(float value) { return _mm512_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return _mm512_fmadd_ps(a, b, sum); }
    static uint32_t not_above(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_NGT_UQ); }
    static Reg expand(const float* base, int64_t position, int halvings) {
        if (halvings == 0) return load(base + position);
        if (halvings > 1) return broadcast(base + (position >> (2 * halvings)));
        const __m512i lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        return _mm512_permutexvar_ps(lane, _mm512_castps128_ps512(_mm_loadu_ps(base + position / 4)));
    }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes)
            store(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + i))));
        for (; i < n; ++i) out[i] = _cvtsh_ss(half[i]);
    }

    static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
    static float reduce(Reg a) { return _mm512_reduce_add_ps(a); }
    static float reduce_max(Reg a) { return _mm512_reduce_max_ps(a); }
    static Reg round(Reg a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static void store_bytes(int8_t* p, Reg a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
    }
    static Reg sqrt(Reg a) { return _mm512_sqrt_ps(a); }
    static Reg positive(Reg a) { return _mm512_max_ps(a, _mm512_setzero_ps()); }
    static uint32_t at_most(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
    static Reg tile4(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
    static Reg repeat4(const float* p) { return expand(p, 0, 1); }

    using Int = __m512i;
    static Int load_int(const int32_t* p) { return _mm512_loadu_si512(p); }
    static Int broadcast_int(int32_t value) { return _mm512_set1_epi32(value); }
    static Int sub_int(Int a, Int b) { return _mm512_sub_epi32(a, b); }
    static Reg to_float(Int a) { return _mm512_cvtepi32_ps(a); }
    static Reg pick(const float* p, Int index) { return _mm512_permutexvar_ps(index, load(p)); }
    // Adds the four quarters of each query's sums: four queries a register, as `block_totals` wants them.
    static Int fold(Int a, Int b, Int c, Int d) {
        const auto halved = [](Int x, Int y) {  // 128-bit parts: x0 + x2, x1 + x3, y0 + y2, y1 + y3
            return _mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x44), _mm512_shuffle_i32x4(x, y, 0xee));
        };
        const Int low = halved(a, b), high = halved(c, d);
        return _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xdd));
    }

    // Part i, 16 bytes, is the window at byte at[i].
    using Windows = __m512i;
    static Windows windows(const uint8_t* p, const int32_t* at) {
        const auto window = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + at[i])); };
        const Windows low = _mm512_inserti32x4(_mm512_castsi128_si512(window(0)), window(1), 1);
        return _mm512_inserti32x4(_mm512_inserti32x4(low, window(2), 2), window(3), 3);
    }
    template <int bytes, int pixel>
    static Reg pixels(Windows w) {
        const __m128i from = _mm_set_epi32(lane_byte(bytes, pixel, 3), lane_byte(bytes, pixel, 2),
                                           lane_byte(bytes, pixel, 1), lane_byte(bytes, pixel, 0));
        return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(w, _mm512_broadcast_i32x4(from)));
    }
    static void turn4(Reg* r) {
        const Reg low = _mm512_unpacklo_ps(r[0], r[1]), high = _mm512_unpackhi_ps(r[0], r[1]);
        const Reg next_low = _mm512_unpacklo_ps(r[2], r[3]), next_high = _mm512_unpackhi_ps(r[2], r[3]);
        r[0] = _mm512_shuffle_ps(low, next_low, 0x44);
        r[1] = _mm512_shuffle_ps(low, next_low, 0xee);
        r[2] = _mm512_shuffle_ps(high, next_high, 0x44);
        r[3] = _mm512_shuffle_ps(high, next_high, 0xee);
    }
    static void store_pixels(uint8_t* p, Reg a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a)));
    }

    static Reg64 zero64() { return _mm512_setzero_pd(); }
    static Reg64 broadcast64(double value) { return _mm512_set1_pd(value); }
    static Reg64 load64(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
    static Reg64 add64(Reg64 a, Reg64 b) { return _mm512_add_pd(a, b); }
    static Reg64 sub64(Reg64 a, Reg64 b) { return _mm512_sub_pd(a, b); }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return _mm512_fmadd_pd(a, b, sum); }
    static double reduce64(Reg64 a) { return _mm512_reduce_add_pd(a); }
};

}  // namespace
}  // namespace spadeline
