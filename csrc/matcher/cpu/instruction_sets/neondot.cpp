// NEON with dot products, from Cortex-A55 / A75 and Jetson Xavier on: products of bytes are summed four at a time.
#include "matcher/cpu/kernels.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/instruction_sets/neon.hpp"
#include "matcher/cpu/instruction_sets/table.hpp"

namespace spadeline {
namespace {

struct NeonDot : Neon {
    // With four vectors to a panel: 24 sums, 4 registers of codes, and one of a query, of 32.
    static constexpr int queries = 6;
    static constexpr int64_t byte_cost = 1;
    static constexpr double most_coded = 1;
    using Sum = int32x4_t;

    static Sum zero_sum() { return vdupq_n_s32(0); }
    static void dot(Sum& sum, Codes gallery, const int8_t* query) { sum = vdotq_s32(sum, gallery, vld1q_s8(query)); }
    static void dot_broadcast(Sum& sum, Codes gallery, const int8_t* query) {
        sum = vdotq_s32(sum, gallery, four_bytes(query));
    }
    static Int totals(Sum sum) { return sum; }
    static void block_totals(const Sum* sums, Int* out) {
        for (int q = 0; q < 4; ++q) out[q] = sums[q];
    }
};

static_assert(InstructionSet<NeonDot>);

bool supported() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }

}  // namespace

const Kernels* neondot_kernels() {
    static constexpr Kernels kernels = kernels_of<NeonDot>("neondot", supported);
    return &kernels;
}

}  // namespace spadeline
#else
const spadeline::Kernels* spadeline::neondot_kernels() { return nullptr; }
#endif
