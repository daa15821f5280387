// AVX2, from Haswell and Zen on: bytes are widened to 16 bits, whose products are summed in pairs.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "matcher/cpu/avx2.hpp"
#include "matcher/cpu/table.hpp"

namespace spadeline {
namespace {

struct Avx2Words : Avx2 {
    static constexpr int queries = 3;
    static constexpr int64_t byte_cost = 2;  // of a product of bytes, against one of floats in the dense path
    static constexpr int32_t byte_offset = kByteOffset;
    struct Sum {
        __m256i low, high;  // two sums for each of four vectors
    };
    using Codes = Sum;

    static Sum zero_sum() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Codes gallery_codes(const uint8_t* p) {
        const auto* halves = reinterpret_cast<const __m128i*>(p);
        return {_mm256_cvtepu8_epi16(_mm_loadu_si128(halves)), _mm256_cvtepu8_epi16(_mm_loadu_si128(halves + 1))};
    }
    static void dot(Sum& sum, const Codes& gallery, const int8_t* query) {
        const auto* halves = reinterpret_cast<const __m128i*>(query);
        accumulate(sum, gallery, _mm256_cvtepi8_epi16(_mm_loadu_si128(halves)),
                   _mm256_cvtepi8_epi16(_mm_loadu_si128(halves + 1)));
    }
    static void dot_broadcast(Sum& sum, const Codes& gallery, const int8_t* query) {
        const __m256i words = _mm256_cvtepi8_epi16(_mm_set1_epi32(*reinterpret_cast<const int32_t*>(query)));
        accumulate(sum, gallery, words, words);
    }
    static Int totals(const Sum& sum) {  // hadd works within halves: vectors 0 1 4 5 | 2 3 6 7
        return _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum.low, sum.high), 0xd8);
    }
    static void block_totals(const Sum* sums, Int* out) {
        out[0] = fold(totals(sums[0]), totals(sums[1]));
        out[1] = fold(totals(sums[2]), totals(sums[3]));
    }

 private:
    static void accumulate(Sum& sum, const Codes& gallery, __m256i low, __m256i high) {
        sum.low = _mm256_add_epi32(sum.low, _mm256_madd_epi16(gallery.low, low));
        sum.high = _mm256_add_epi32(sum.high, _mm256_madd_epi16(gallery.high, high));
    }
};

bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

const Kernels* avx2_kernels() {
    static constexpr Kernels kernels = kernels_of<Avx2Words>("avx2", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx2_kernels() { return nullptr; }
#endif
