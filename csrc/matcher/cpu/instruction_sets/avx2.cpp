// AVX2, from Haswell and Zen on: bytes are widened to 16 bits, whose products are summed in pairs.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "matcher/cpu/instruction_sets/avx2.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct Avx2Words : Avx2 {
    // With two vectors to a panel: 8 sums, 4 registers of codes, and 4 for the steps of a product, of 16.
    static constexpr int queries = 4;
    static constexpr int64_t byte_cost = 1;
    static constexpr double most_coded = 0.85;
    static constexpr int32_t byte_offset = 0;
    using Sum = __m256i;
    struct Codes {
        __m256i size, sign;
    };

    static Sum zero_sum() { return _mm256_setzero_si256(); }
    static Codes gallery_codes(const uint8_t* p) {
        const __m256i g =
            _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_set1_epi8(-128));
        return {_mm256_abs_epi8(g), g};
    }
    static Codes broadcast_codes(const uint8_t* p) {
        const __m256i g =
            _mm256_xor_si256(_mm256_set1_epi32(*reinterpret_cast<const int32_t*>(p)), _mm256_set1_epi8(-128));
        return {_mm256_abs_epi8(g), g};
    }
    static void dot(Sum& sum, const Codes& gallery, const int8_t* query) {
        accumulate(sum, gallery, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query)));
    }
    static void dot_broadcast(Sum& sum, const Codes& gallery, const int8_t* query) {
        accumulate(sum, gallery, _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query)));
    }
    static Int totals(Sum sum) { return sum; }
    static void block_totals(const Sum* sums, Int* out) {
        out[0] = fold(sums[0], sums[1]);
        out[1] = fold(sums[2], sums[3]);
    }

 private:
    static void accumulate(Sum& sum, const Codes& gallery, __m256i query) {
        const __m256i pairs = _mm256_maddubs_epi16(gallery.size, _mm256_sign_epi8(query, gallery.sign));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};

static_assert(InstructionSet<Avx2Words>);

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
