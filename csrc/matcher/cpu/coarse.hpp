// Step 2 of the pruned path: bounds of all pairs of cells from the coarsest level's codes.
//
// A register tile of queries by one panel of kPanel gallery cells: the panel's bytes are loaded, the query's are
// broadcast four at a time, sums stay in registers, and only the bounds are written.
#pragma once

#include <cstdint>

#include "matcher/cpu/bound.hpp"
#include "matcher/match_task.hpp"

namespace spadeline {

template <class Op>
class Coarse {
 public:
    // Writes bounds[i * stride + (0 … kPanel)]: those of the i-th of `count` query cells, whose codes are given, and a
    // panel of the image's cells.
    static void bound_panel(const MatchTask& task, const CodeRows& queries, int64_t count, int64_t image, int64_t panel,
                            float* bounds, int64_t stride) {
        const LevelTask& level = task.level[task.level_count - 1];
        const CodeTask& code = task.level_count > 1 ? level.projected : level.rotated;
        const uint8_t* record = code.gallery + (image * code.groups + panel) * code.record;
        const auto weight = static_cast<float>(level.weight);
        int64_t i = 0;
        for (; i + Op::queries <= count; i += Op::queries)
            tile<Op::queries>(code.dims, queries, i, record, weight, bounds + i * stride, stride);
        for (; i + 4 <= count; i += 4) tile<4>(code.dims, queries, i, record, weight, bounds + i * stride, stride);
        for (; i < count; ++i) tile<1>(code.dims, queries, i, record, weight, bounds + i * stride, stride);
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int kVectors = kPanel / Op::lanes;

    template <int Q>
    static void tile(int64_t dims, const CodeRows& queries, int64_t query, const uint8_t* record, float weight,
                     float* bounds, int64_t stride) {
        typename Op::Sum sum[Q][kVectors];
#pragma GCC unroll 32
        for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[q][v] = Op::zero_sum();
        const int8_t* rows = queries.codes + query * dims;
        const uint8_t* bytes = record;
        for (int64_t d = 0; d < dims; d += 4, bytes += 4 * kPanel) {
            typename Op::Codes gallery[kVectors];
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) gallery[v] = Op::gallery_codes(bytes + v * 4 * Op::lanes);
#pragma GCC unroll 32
            for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) Op::dot_broadcast(sum[q][v], gallery[v], rows + q * dims + d);
        }
        typename Op::Int totals[Q][kVectors];  // apart from the sums, whose registers must not be indexed by a variable
#pragma GCC unroll 32
        for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) totals[q][v] = Op::totals(sum[q][v]);
        const auto* terms = reinterpret_cast<const float*>(record + dims * kPanel);
        const float* query_terms = queries.terms + query * kTerms;
        for (int q = 0; q < Q; ++q, query_terms += kTerms) {
            const Terms<Op> a{Op::broadcast_value(-2 * query_terms[0]), Op::broadcast(query_terms + 1),
                              Op::broadcast(query_terms + 2), Op::broadcast(query_terms + 3)};
            const typename Op::Int offset = Op::broadcast_int(Op::byte_offset * queries.sums[query + q]);
            for (int v = 0; v < kVectors; ++v) {
                const float* t = terms + v * Op::lanes;
                const Terms<Op> b{Op::load(t), Op::load(t + kPanel), Op::load(t + 2 * kPanel),
                                  Op::load(t + 3 * kPanel)};
                const Reg dot = Op::to_float(Op::sub_int(totals[q][v], offset));
                Op::store(bounds + q * stride + v * Op::lanes,
                          lower_bound(a, b, dot, Op::broadcast_value(weight), Op::broadcast_value(0.0f)));
            }
        }
    }
};

}  // namespace spadeline
