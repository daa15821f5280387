// AVX2, FMA and F16C, from Haswell and Zen on: 12 of 16 registers hold sums.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#include "matcher/cpu/dense.hpp"

namespace spadeline {
namespace {

struct Avx2 {
    using Reg = __m256;
    using Reg64 = __m256d;
    static constexpr int lanes = 8, vectors = 3, rows = 4, lanes_f64 = 4;

    static Reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
    static Reg broadcast(const float* p) { return _mm256_broadcast_ss(p); }
    static Reg broadcast_value(float value) { return _mm256_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg sum) { return _mm256_fmadd_ps(a, b, sum); }
    // One bit per lane: a <= b, or either is NaN.
    static uint32_t not_above(Reg a, Reg b) {
        return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NGT_UQ)));
    }
    // Lane i gets base[(position + i) >> 2 * halvings].
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

bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

const Kernels* avx2_kernels() {
    static constexpr Kernels kernels{"avx2", supported, Dense<Avx2>::share_floats, Dense<Avx2>::match};
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx2_kernels() { return nullptr; }
#endif
