// AVX-512 with VNNI, from Ice Lake and Zen 4 on: products of bytes are summed four at a time, 16 lanes wide.
#include "matcher/cpu/kernels.hpp"

#if defined(__AVX512VNNI__)
#include "matcher/cpu/instruction_sets/avx512.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct Avx512Vnni : Avx512 {
    // 14 sums hide a product's latency. 14 divides the 196 cells of a 224 x 224 image.
    static constexpr int queries = 14;
    static constexpr int64_t byte_cost = 1;
    static constexpr double most_coded = 1;
    static constexpr int32_t byte_offset = kByteOffset;
    // Not __m512i, of eight int64: GCC 12 copies each sum twice a step of a loop where its type differs from that of
    // the instruction's lanes.
    using Sum = int32_t __attribute__((vector_size(64)));
    using Codes = __m512i;

    static Sum zero_sum() { return Sum{}; }
    static Codes gallery_codes(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Codes broadcast_codes(const uint8_t* p) { return _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(p)); }
    static void dot(Sum& sum, Codes gallery, const int8_t* query) {
        sum = (Sum)_mm512_dpbusd_epi32((Int)sum, gallery, _mm512_loadu_si512(query));
    }
    static void dot_broadcast(Sum& sum, Codes gallery, const int8_t* query) {
        sum = (Sum)_mm512_dpbusd_epi32((Int)sum, gallery, _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(query)));
    }
    static Int totals(Sum sum) { return (Int)sum; }
    static void block_totals(const Sum* sums, Int* out) {
        *out = fold((Int)sums[0], (Int)sums[1], (Int)sums[2], (Int)sums[3]);
    }
};

static_assert(InstructionSet<Avx512Vnni>);

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels* avx512vnni_kernels() {
    static constexpr Kernels kernels = kernels_of<Avx512Vnni>("avx512vnni", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::avx512vnni_kernels() { return nullptr; }
#endif
