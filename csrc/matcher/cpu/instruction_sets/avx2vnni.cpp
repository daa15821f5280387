// AVX2 with AVX-VNNI, from Alder Lake and Zen 5 on: products of bytes are summed four at a time, 8 lanes wide.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVXVNNI__)
#include <cpuid.h>

#include "matcher/cpu/instruction_sets/avx2.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct Avx2Vnni : Avx2 {
    // With two vectors to a panel: 12 sums, 2 registers of codes, and one of a query, of 16.
    static constexpr int queries = 6;
    static constexpr int64_t byte_cost = 1;
    static constexpr double most_coded = 1;
    static constexpr int32_t byte_offset = kByteOffset;
    using Sum = __m256i;
    using Codes = __m256i;

    static Sum zero_sum() { return _mm256_setzero_si256(); }
    static Codes gallery_codes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static Codes broadcast_codes(const uint8_t* p) { return _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(p)); }
    static void dot(Sum& sum, Codes gallery, const int8_t* query) {
        sum = _mm256_dpbusd_avx_epi32(sum, gallery, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query)));
    }
    static void dot_broadcast(Sum& sum, Codes gallery, const int8_t* query) {
        sum = _mm256_dpbusd_avx_epi32(sum, gallery, _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(query)));
    }
    static Int totals(Sum sum) { return sum; }
    static void block_totals(const Sum* sums, Int* out) {
        out[0] = fold(sums[0], sums[1]);
        out[1] = fold(sums[2], sums[3]);
    }
};

static_assert(InstructionSet<Avx2Vnni>);

bool supported() {
    unsigned a = 0, b = 0, c = 0, d = 0;  // GCC 12 has no name for AVX-VNNI
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

}  // namespace

const Kernels* avx2vnni_kernels() {
    static constexpr Kernels kernels = kernels_of<Avx2Vnni>("avx2vnni", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx2vnni_kernels() { return nullptr; }
#endif
