// AVX-512 without VNNI, Skylake-X: bytes are widened to 16 bits, whose products are summed in pairs.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX512F__)
#include "matcher/cpu/instruction_sets/avx512.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct Avx512Words : Avx512 {
    // 14 sums, two for each query, hide a product's latency. 7 divides the 196 cells of a 224 x 224 image.
    static constexpr int queries = 7;
    static constexpr int64_t byte_cost = 2;  // a product takes two instructions for each half of its bytes
    static constexpr double most_coded = 0.85;
    static constexpr int32_t byte_offset = kByteOffset;
    struct Sum {
        __m512i low, high;  // two sums for each of eight vectors
    };
    using Codes = Sum;

    static Sum zero_sum() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
    static Codes gallery_codes(const uint8_t* p) {
        const auto half = [&](int i) {
            return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + i));
        };
        return {half(0), half(1)};
    }
    static Codes broadcast_codes(const uint8_t* p) {
        const __m512i words = _mm512_cvtepu8_epi16(_mm256_set1_epi32(*reinterpret_cast<const int32_t*>(p)));
        return {words, words};
    }
    static void dot(Sum& sum, const Codes& gallery, const int8_t* query) {
        const auto half = [&](int i) {
            return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(query) + i));
        };
        sum.low = _mm512_add_epi32(sum.low, _mm512_madd_epi16(gallery.low, half(0)));
        sum.high = _mm512_add_epi32(sum.high, _mm512_madd_epi16(gallery.high, half(1)));
    }
    static void dot_broadcast(Sum& sum, const Codes& gallery, const int8_t* query) {
        const __m512i words = _mm512_cvtepi8_epi16(_mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query)));
        sum.low = _mm512_add_epi32(sum.low, _mm512_madd_epi16(gallery.low, words));
        sum.high = _mm512_add_epi32(sum.high, _mm512_madd_epi16(gallery.high, words));
    }
    static Int totals(const Sum& sum) {
        const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
        return _mm512_add_epi32(_mm512_permutex2var_epi32(sum.low, even, sum.high),
                                _mm512_permutex2var_epi32(sum.low, odd, sum.high));
    }
    static void block_totals(const Sum* sums, Int* out) {
        *out = fold(totals(sums[0]), totals(sums[1]), totals(sums[2]), totals(sums[3]));
    }
};

static_assert(InstructionSet<Avx512Words>);

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

const Kernels* avx512_kernels() {
    static constexpr Kernels kernels = kernels_of<Avx512Words>("avx512", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx512_kernels() { return nullptr; }
#endif
