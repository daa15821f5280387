// NEON, every 64-bit Arm core: products of bytes are 16 bits wide, and summed in pairs.
#include "matcher/cpu/kernels.hpp"

#if defined(__aarch64__)
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/neon.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct NeonWords : Neon {
    // With four vectors to a panel: 16 sums, 4 registers of codes, and 3 for the steps of a product, of 32.
    static constexpr int queries = 2;
    static constexpr int64_t byte_cost = 2;  // two products, each of which is added up in pairs
    static constexpr double most_coded = 0.85;
    struct Sum {
        int32x4_t low, high;  // two sums for each of two vectors
    };

    static Sum zero_sum() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static void dot(Sum& sum, Codes gallery, const int8_t* query) { accumulate(sum, gallery, vld1q_s8(query)); }
    static void dot_broadcast(Sum& sum, Codes gallery, const int8_t* query) {
        accumulate(sum, gallery, four_bytes(query));
    }
    static Int totals(const Sum& sum) { return vpaddq_s32(sum.low, sum.high); }
    static void block_totals(const Sum* sums, Int* out) {
        for (int q = 0; q < 4; ++q) out[q] = totals(sums[q]);
    }

 private:
    static void accumulate(Sum& sum, Codes gallery, Codes query) {
        sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(gallery), vget_low_s8(query)));
        sum.high = vpadalq_s16(sum.high, vmull_high_s8(gallery, query));
    }
};

static_assert(InstructionSet<NeonWords>);

bool supported() { return true; }

}  // namespace

const Kernels* neon_kernels() {
    static constexpr Kernels kernels = kernels_of<NeonWords>("neon", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::neon_kernels() { return nullptr; }
#endif
