// AVX2 registers, with FMA and F16C. Included by one file for each kind of byte product.
//
// Of the 16 registers the dense path's tile fills all: 4 rows by 3 vectors are 12 sums, 3 hold queries, and one a
// gallery value. A step is 12 multiply-adds for 7 loads, and a core starts two of each a cycle: loads don't limit it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "matcher/cpu/instruction_sets/instruction_set.hpp"

namespace spadeline {
namespace {

struct Avx2 {
    using Reg = __m256;
    using Reg64 = __m256d;
    static constexpr int lanes = 8, vectors = 3, rows = 4, lanes_f64 = 4, registers = 16;

    static Reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
    static Reg broadcast(const float* p) { return _mm256_broadcast_ss(p); }
    static Reg broadcast_value(float value) { return _mm256_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return _mm256_fmadd_ps(a, b, sum); }
    static uint32_t not_above(Reg a, Reg b) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NGT_UQ)));
    }
    static Reg expand(const float* base, int64_t position, int halvings) {
        if (halvings == 0) return load(base + position);
        if (halvings > 1) return broadcast(base + (position >> (2 * halvings)));
        const __m128 low = _mm_set1_ps(base[position / 4]), high = _mm_set1_ps(base[position / 4 + 1]);
        return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
    }
    static void widen(const uint16_t* half, float* out, int64_t n) {
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes)
            store(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
        for (; i < n; ++i) out[i] = _cvtsh_ss(half[i]);
    }

    static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
    static float reduce(Reg a) {
        const __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
    }
    static float reduce_max(Reg a) {
        const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
    }
    static Reg round(Reg a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static void store_bytes(int8_t* p, Reg a) {
        const __m256i wide = _mm256_cvtps_epi32(a);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    }
    static Reg sqrt(Reg a) { return _mm256_sqrt_ps(a); }
    static Reg positive(Reg a) { return _mm256_max_ps(a, _mm256_setzero_ps()); }
    static uint32_t at_most(Reg a, Reg b) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
    }
    static Reg tile4(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
    static Reg repeat4(const float* p) { return expand(p, 0, 1); }

    using Int = __m256i;
    static Int load_int(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static Int broadcast_int(int32_t value) { return _mm256_set1_epi32(value); }
    static Int sub_int(Int a, Int b) { return _mm256_sub_epi32(a, b); }
    static Reg to_float(Int a) { return _mm256_cvtepi32_ps(a); }
    static Reg pick(const float* p, Int index) { return _mm256_permutevar8x32_ps(load(p), index); }
    // Adds the two halves of each query's sums: two queries a register, as `block_totals` wants them.
    static Int fold(Int a, Int b) {
        return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
    }

    // Part i, 16 bytes, is the window at byte at[i].
    using Windows = __m256i;
    static Windows windows(const uint8_t* p, const int32_t* at) {
        const auto window = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + at[i])); };
        return _mm256_inserti128_si256(_mm256_castsi128_si256(window(0)), window(1), 1);
    }
    template <int bytes, int pixel>
    static Reg pixels(Windows w) {
        const __m128i from = _mm_set_epi32(lane_byte(bytes, pixel, 3), lane_byte(bytes, pixel, 2),
                                           lane_byte(bytes, pixel, 1), lane_byte(bytes, pixel, 0));
        return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(w, _mm256_broadcastsi128_si256(from)));
    }
    static void turn4(Reg* r) {
        const Reg low = _mm256_unpacklo_ps(r[0], r[1]), high = _mm256_unpackhi_ps(r[0], r[1]);
        const Reg next_low = _mm256_unpacklo_ps(r[2], r[3]), next_high = _mm256_unpackhi_ps(r[2], r[3]);
        r[0] = _mm256_shuffle_ps(low, next_low, 0x44);
        r[1] = _mm256_shuffle_ps(low, next_low, 0xee);
        r[2] = _mm256_shuffle_ps(high, next_high, 0x44);
        r[3] = _mm256_shuffle_ps(high, next_high, 0xee);
    }
    static void store_pixels(uint8_t* p, Reg a) {
        const __m256i wide = _mm256_cvtps_epi32(a);
        const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }

    static Reg64 zero64() { return _mm256_setzero_pd(); }
    static Reg64 broadcast64(double value) { return _mm256_set1_pd(value); }
    static Reg64 load64(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
    static Reg64 add64(Reg64 a, Reg64 b) { return _mm256_add_pd(a, b); }
    static Reg64 sub64(Reg64 a, Reg64 b) { return _mm256_sub_pd(a, b); }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return _mm256_fmadd_pd(a, b, sum); }
    static double reduce64(Reg64 a) {
        const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
        return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
    }
};

}  // namespace
}  // namespace spadeline
