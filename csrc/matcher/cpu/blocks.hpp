// Step 5 of the pruned path: from a pair of cells down the levels, in blocks of 4 x 4 pairs of positions. These are
// members of Refine.
//
// A block is four positions of the query and four of the gallery that lie under one pair of the level above. Projected
// codes rule most blocks out; rotated codes, nearly as sharp as the vectors themselves, leave few pairs of the others.
// Before one of those is followed, exact distances replace the bounds of the levels above it. They would be needed for
// the pair's own distance anyway, and serve all pairs of the block.
#pragma once

#include <cstdint>

#include "matcher/cpu/refine.hpp"

namespace spadeline {

// Matches all pairs of positions of level l under a pair of the level above, whose bound is `base`.
template <class Op>
void Refine<Op>::descend(int l, int64_t query, int64_t gallery, float base, bool screened) {
    const int64_t groups = children(l) / kGroup;
    for (int64_t g = gallery * groups; g < (gallery + 1) * groups; ++g)
        for (int64_t q = query * groups; q < (query + 1) * groups; ++q) match_block(l, q, g, base, screened);
}

template <class Op>
void Refine<Op>::match_block(int l, int64_t query_group, int64_t gallery_group, float base, bool screened) {
    const LevelTask& level = task_.level[l];
    float bounds[kBlock];
    if (level.projected.dims && !screened &&
        !block_bounds(l, level.projected, level_[l].projected, query_group, gallery_group, base, bounds))
        return;
    uint32_t open = block_bounds(l, level.rotated, level_[l].rotated, query_group, gallery_group, base, bounds);
    const float* thresholds = level_[l].thresholds + query_group * kGroup;
    if (l > 0) prefetch_below(l, gallery_group, open);
    float excess = -1;  // what the exact distance of the levels above exceeds `base` by; negative: not yet computed
    while (open) {      // the lowest bound first: its distance may rule the others out
        int lowest = __builtin_ctz(open);
        for (uint32_t rest = open & (open - 1); rest; rest &= rest - 1)
            if (bounds[__builtin_ctz(rest)] < bounds[lowest]) lowest = __builtin_ctz(rest);
        open &= ~(1u << lowest);
        if (!(bounds[lowest] <= thresholds[lowest / 4])) continue;
        if (excess < 0) excess = excess_of(l + 1, query_group * kGroup / children(l), base);
        const float bound = bounds[lowest] + excess;
        if (!(bound <= thresholds[lowest / 4])) continue;
        ++counts_.passed[l];
        const int64_t query = query_group * kGroup + lowest / 4, gallery = gallery_group * kGroup + lowest % 4;
        if (l == 0) {
            decide(query, gallery);
        } else {
            enter(l, gallery);
            descend(l - 1, query, gallery, bound, false);
        }
    }
}

// Starts loading the first codes below the gallery positions of a block's open pairs.
template <class Op>
void Refine<Op>::prefetch_below(int l, int64_t gallery_group, uint32_t open) const {
    const CodeTask& code = l > 1 ? task_.level[l - 1].projected : task_.level[l - 1].rotated;
    open |= open >> 8, open |= open >> 4;  // bit g is set if any query position is open with gallery position g
    for (int64_t g = 0; g < kGroup; ++g)
        if (open >> g & 1) prefetch(code, (gallery_group * kGroup + g) * children(l - 1) / kGroup);
}

// Bounds four query positions by four of the gallery. Returns one bit for each bound that doesn't exceed its threshold.
template <class Op>
uint32_t Refine<Op>::block_bounds(int l, const CodeTask& task, const Code& code, int64_t query_group,
                                  int64_t gallery_group, float base, float* bounds) {
    budget_ -= kBlockCost + Op::byte_cost * kBlock * task.dims;
    const uint8_t* record = task.gallery + (image_ * task.groups + gallery_group) * task.record;
    const int8_t* queries = code.codes + query_group * kGroup * task.dims * kGroup;
    const int64_t stride = task.dims * kGroup;
    typename Op::Sum sum[4] = {Op::zero_sum(), Op::zero_sum(), Op::zero_sum(), Op::zero_sum()};
    for (int64_t d = 0; d < stride; d += 4 * Op::lanes) {
        const typename Op::Codes gallery = Op::gallery_codes(record + d);
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) Op::dot(sum[q], gallery, queries + q * stride + d);
    }
    typename Op::Int totals[kRegs];
    Op::block_totals(sum, totals);
    const Group& group = code.groups[query_group];
    const auto* terms = reinterpret_cast<const float*>(record + task.dims * kGroup);
    const Terms<Op> b{Op::tile4(terms), Op::tile4(terms + 4), Op::tile4(terms + 8), Op::tile4(terms + 12)};
    const Reg weight = Op::broadcast_value(static_cast<float>(task_.level[l].weight));
    const float* thresholds = level_[l].thresholds + query_group * kGroup;
    uint32_t open = 0;
    for (int v = 0; v < kRegs; ++v) {
        const int i = v * Op::lanes;
        const Terms<Op> a{Op::load(group.scale + i), Op::load(group.norm + i), Op::load(group.error + i),
                          Op::load(group.residual + i)};
        const Reg dot = Op::to_float(Op::sub_int(totals[v], Op::load_int(group.offset + i)));
        const Reg bound = lower_bound(a, b, dot, weight, Op::broadcast_value(base));
        Op::store(bounds + i, bound);
        open |= Op::at_most(bound, Op::repeat4(thresholds + i / 4)) << i;
    }
    return open;
}

// Lays the query's codes of one level in this cell out for block_bounds.
template <class Op>
void Refine<Op>::expand(int64_t block, const CodeTask& task, const Code& out) {
    const int64_t first = cell_ * block;
    for (int64_t i = 0; i < block && task.dims; ++i) {
        const auto* from = reinterpret_cast<const uint32_t*>(task.query.codes + (first + i) * task.dims);
        auto* to = reinterpret_cast<uint32_t*>(out.codes + i * task.dims * kGroup);
        for (int64_t d = 0; d < task.dims / 4; ++d)
            for (int64_t v = 0; v < kGroup; ++v) to[d * kGroup + v] = from[d];
        const float* terms = task.query.terms + (first + i) * kTerms;
        Group& group = out.groups[i / 4];
        for (int64_t j = i % 4 * 4; j < i % 4 * 4 + 4; ++j) {
            group.scale[j] = -2 * terms[0];
            group.norm[j] = terms[1];
            group.error[j] = terms[2];
            group.residual[j] = terms[3];
            group.offset[j] = Op::byte_offset * task.query.sums[first + i];
        }
    }
}

}  // namespace spadeline
