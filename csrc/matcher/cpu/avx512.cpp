// AVX-512 (F, BW, DQ, VL), from Skylake-X and Zen 4 on: 24 of 32 registers hold sums.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX512F__)
#include <immintrin.h>

#include "matcher/cpu/dense.hpp"

namespace spadeline {
namespace {

struct Avx512 {
    using Reg = __m512;
    using Reg64 = __m512d;
    static constexpr int lanes = 16, vectors = 3, rows = 8, lanes_f64 = 8;

    static Reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
    static Reg broadcast(const float* p) { return _mm512_set1_ps(*p); }
    static Reg broadcast_value(float value) { return _mm512_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return _mm512_fmadd_ps(a, b, sum); }
    // One bit per lane: a <= b, or either is NaN.
    static uint32_t not_above(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_NGT_UQ); }
    // Lane i gets base[(position + i) >> 2 * halvings].
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

    static Reg64 zero64() { return _mm512_setzero_pd(); }
    static Reg64 broadcast64(double value) { return _mm512_set1_pd(value); }
    static Reg64 load64(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
    static Reg64 add64(Reg64 a, Reg64 b) { return _mm512_add_pd(a, b); }
    static Reg64 sub64(Reg64 a, Reg64 b) { return _mm512_sub_pd(a, b); }
    static Reg64 fma64(Reg64 a, Reg64 b, Reg64 sum) { return _mm512_fmadd_pd(a, b, sum); }
    static double reduce64(Reg64 a) { return _mm512_reduce_add_pd(a); }
};

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

const Kernels* avx512_kernels() {
    static constexpr Kernels kernels{"avx512", supported, Dense<Avx512>::share_floats, Dense<Avx512>::match};
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx512_kernels() { return nullptr; }
#endif
