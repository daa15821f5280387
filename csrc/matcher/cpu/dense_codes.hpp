// The dense path's filter from codes: int8 products, of those pairs alone that coarser levels leave open. These are
// members of Dense.
//
// The coarsest level's lower bounds come from features (tile.hpp). Every finer level is taken a register of query
// positions at a time:
//   1. the gallery positions of the level above whose bound is below the threshold of one of these queries are listed;
//   2. a tile multiplies the codes below them, four gallery positions (a quad) for each of the level above;
//   3. its bounds are the base of the next finer level, or at the finest level what decides which pairs are computed in
//      float64.
// With t the query's threshold, S = sqrt(t), and e a code's error times the root of the level's weight,
//
//     bound = base + weight |c_a - c_b|^2 - 2 S (e_a + e_b) - (e_a + e_b)^2
//
// is no lower bound for every pair, but for those whose distance doesn't exceed t: csrc/README.md has the proof. It
// needs no square root for a pair, which took as long as a pair's products.
#pragma once

#include <cstdint>

#include "matcher/cpu/dense.hpp"

namespace spadeline {

template <class Op>
void Dense<Op>::lay_out_codes(int l, Workspace<Op>& workspace) {
    const Level& level = level_[l];
    Coded& coded = level_[l].coded;
    const auto take = [&](int64_t floats) { return workspace.take(floats); };
    const int64_t quads = ceil_div(chunk_cells_ * level.block, kGroup), most = quads + kQuads<Op>;
    coded.panels = reinterpret_cast<int8_t*>(take(level.columns * task_.level[l].rotated.dims / 4));
    coded.scale = take(level.columns);
    coded.norm = take(level.columns);
    coded.error = take(level.columns);
    coded.slack = take(level.columns);
    coded.reach = take(level.columns);
    coded.raised = take(level.columns);
    coded.offset = reinterpret_cast<int32_t*>(take(level.columns));
    coded.quads = reinterpret_cast<Quad*>(take(quads * static_cast<int64_t>(sizeof(Quad) / sizeof(float))));
    coded.open = reinterpret_cast<int32_t*>(take(most));
    coded.bases = reinterpret_cast<const float**>(take(2 * most));
    coded.bounds = l > 0 ? take(most * kGroup * Op::lanes + Op::lanes) : nullptr;
    coded.rows = l > 0 ? reinterpret_cast<int32_t*>(take(most * kGroup)) : nullptr;
}

// Lays out the codes of the share's queries for match_quads, and their terms.
template <class Op>
void Dense<Op>::pack_codes(int l) {
    const Level& level = level_[l];
    const CodeTask& code = task_.level[l].rotated;
    const Coded& coded = level.coded;
    const float weight = static_cast<float>(task_.level[l].weight), root = __builtin_sqrtf(weight);
    for (int64_t q = 0; q < level.columns; ++q) {
        auto* to = reinterpret_cast<int32_t*>(coded.panels) + q / Op::lanes * Op::lanes * code.dims / 4 + q % Op::lanes;
        const bool filled = q >= level.query_count;  // a column that fills up the last panel
        const int64_t at = filled ? 0 : cell_of(q / level.block) * level.block + q % level.block;
        const auto* from = reinterpret_cast<const int32_t*>(code.query.codes + at * code.dims);
        for (int64_t d = 0; d < code.dims / 4; ++d) to[d * Op::lanes] = filled ? 0 : from[d];
        const float* terms = code.query.terms + at * kTerms;
        coded.scale[q] = filled ? 0 : terms[0];
        coded.norm[q] = filled ? 0 : weight * terms[1];
        coded.error[q] = filled ? 0 : root * terms[2] * kRaised;
        coded.offset[q] = filled ? 0 : Op::byte_offset * code.query.sums[at];
    }
}

// Finds the chunk's codes, and makes their terms.
template <class Op>
void Dense<Op>::load_codes(int l) {
    const Level& level = level_[l];
    const CodeTask& code = task_.level[l].rotated;
    const float weight = static_cast<float>(task_.level[l].weight), root = __builtin_sqrtf(weight);
    const int64_t group = group_size(task_.level_count == 1), first = chunk_first_ * level.block;
    for (int64_t i = 0; i < ceil_div(level.row_count, kGroup); ++i) {
        const int64_t position = first + i * kGroup;
        const uint8_t* record = code.gallery + (image_ * code.groups + position / group) * code.record;
        const auto* terms = reinterpret_cast<const float*>(record + code.dims * group) + position % group;
        Quad& quad = level.coded.quads[i];
        quad.codes = record + position % group * 4;
        quad.error = 0;
        for (int64_t g = 0; g < kGroup; ++g)
            quad.error = terms[2 * group + g] > quad.error ? terms[2 * group + g] : quad.error;
        quad.error *= root * kRaised;
        for (int64_t g = 0; g < kGroup; ++g) {
            quad.factor[g] = -2 * weight * terms[g];
            quad.norm[g] = weight * terms[group + g] - quad.error * quad.error;
        }
    }
}

// A threshold's part of bounds; `error` and `norm` are those of a query's code.
template <class Op>
void Dense<Op>::set_terms(float threshold, float norm, float error, float* raised, float* slack, float* reach) {
    const float most = threshold < 0 ? 0 : threshold * kRaised;
    const float root = __builtin_sqrtf(most < kLargestSquare ? most : kLargestSquare) * kRaised + kSmallestRoot;
    *raised = threshold < 0 ? threshold : most < __FLT_MAX__ ? most : __FLT_MAX__;
    *slack = norm - (2 * root * error + error * error) - kUnderflow;
    *reach = -2 * (root + error);
}

template <class Op>
void Dense<Op>::set_coded_threshold(int64_t q) {
    const Coded& coded = level_[0].coded;
    set_terms(thresholds_[q], coded.norm[q], coded.error[q], coded.raised + q, coded.slack + q, coded.reach + q);
}

// Steps 1 to 3 of all the share's queries with the chunk.
template <class Op>
void Dense<Op>::match_coded() {
    const int coarsest = task_.level_count - 1, l = coarsest > 0 ? coarsest - 1 : 0;
    if (coarsest > 0 && !multiply(coarsest)) return;
    const Level& above = level_[coarsest];
    const OpenRows rows{above.products, above.columns, 0, nullptr, above.row_count};
    const int64_t below = int64_t{1} << (2 * task_.level[l].shift);
    for (int64_t q = 0; q < level_[l].query_count && !late() && !flooded(); q += Op::lanes) {
        const int64_t queries = Op::lanes * below;
        if (first_chunk_) queries_ += queries;
        pairs_ += queries * level_[0].row_count;
        match_positions(l, q, rows);
    }
    first_chunk_ = false;
}

// Matches a register of level l's positions, from `column` on, with the gallery positions below `above`.
template <class Op>
void Dense<Op>::match_positions(int l, int64_t column, const OpenRows& above) {
    const Coded& coded = level_[l].coded;
    if (l > 0) lower_thresholds(l, column);
    above_first_[l] = above.first_column;
    const int64_t count = find_open(l, column, above);
    if (l == 0) opened_ += count * kGroup * Op::lanes;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i += kQuads<Op>) kept = match_quads<kQuads<Op>>(l, column, i, count, kept);
    if (l == 0) return;
    const OpenRows rows{coded.bounds, Op::lanes, column, coded.rows, kept};
    const int halvings = 2 * (task_.level[l].shift - task_.level[l - 1].shift);
    const int64_t end = (column + Op::lanes) << halvings, most = level_[l - 1].query_count;
    for (int64_t q = column << halvings; q < end && q < most; q += Op::lanes) match_positions(l - 1, q, rows);
}

// The thresholds of level l's positions from `column` on: the largest of the finest positions below each.
template <class Op>
void Dense<Op>::lower_thresholds(int l, int64_t column) {
    const Coded& coded = level_[l].coded;
    const int64_t below = int64_t{1} << (2 * task_.level[l].shift);
    for (int64_t q = column; q < column + Op::lanes; ++q) {
        float most = -__builtin_inff();
        for (int64_t i = q * below; i < (q + 1) * below && q < level_[l].query_count; ++i)
            most = thresholds_[i] > most ? thresholds_[i] : most;
        set_terms(most, coded.norm[q], coded.error[q], coded.raised + q, coded.slack + q, coded.reach + q);
    }
}

// Lists the quads of level l below the rows that aren't ruled out for all positions from `column` on; a tile's last
// quad is repeated until it is full.
template <class Op>
int64_t Dense<Op>::find_open(int l, int64_t column, const OpenRows& above) {
    const Coded& coded = level_[l].coded;
    int64_t count = 0;
    if (l + 1 == task_.level_count) {  // the only level
        for (; count < ceil_div(level_[l].row_count, kGroup); ++count)
            coded.open[count] = static_cast<int32_t>(count), coded.bases[count] = zeros_;
    } else {
        const int halvings = 2 * (task_.level[l + 1].shift - task_.level[l].shift);
        const int64_t first = column >> halvings, quads = (int64_t{1} << halvings) / kGroup;
        float most[Op::lanes];
        for (float& threshold : most) threshold = -__builtin_inff();
        for (int64_t q = column; q < column + Op::lanes; ++q) {
            float& threshold = most[(q >> halvings) - first];
            threshold = coded.raised[q] > threshold ? coded.raised[q] : threshold;
        }
        const Reg thresholds = Op::load(most);
        const float* row = above.bounds;
        for (int64_t i = 0; i < above.count; ++i, row += above.stride) {
            const bool open = Op::at_most(Op::load(row + (first - above.first_column)), thresholds);
            const int64_t quad = (above.rows ? above.rows[i] : i) * quads;
            for (int64_t k = 0; k < quads; ++k) {
                coded.open[count] = static_cast<int32_t>(quad + k);
                coded.bases[count] = row;
                count += open;
            }
        }
    }
    for (int k = 0; k < kQuads<Op> && count > 0; ++k)
        coded.open[count + k] = coded.open[count - 1], coded.bases[count + k] = coded.bases[count - 1];
    return count;
}

// Bounds the listed quads from `first` on with a register of queries. Above the finest level it keeps the rows that
// aren't ruled out, behind the `kept` ones, and returns how many there are then.
template <class Op>
template <int Quads>
int64_t Dense<Op>::match_quads(int l, int64_t column, int64_t first, int64_t count, int64_t kept) {
    const Coded& coded = level_[l].coded;
    const int64_t dims = task_.level[l].rotated.dims, step = 4 * group_size(task_.level_count == 1);
    const int32_t* open = coded.open + first;
    const uint8_t* codes[Quads];
    for (int k = 0; k < Quads; ++k) codes[k] = coded.quads[open[k]].codes;
    constexpr int kRows = Quads * kGroup;
    typename Op::Sum sum[kRows];
#pragma GCC unroll 32
    for (int g = 0; g < kRows; ++g) sum[g] = Op::zero_sum();
    const int8_t* panel = coded.panels + column * dims;
    const int8_t* const end = panel + Op::lanes * dims;
    for (; panel < end; panel += 4 * Op::lanes)
#pragma GCC unroll 8
        for (int k = 0; k < Quads; ++k) {
#pragma GCC unroll 4
            for (int g = 0; g < kGroup; ++g) Op::dot(sum[k * kGroup + g], Op::broadcast_codes(codes[k] + g * 4), panel);
            codes[k] += step;
        }
    typename Op::Int totals[kRows];  // apart from the sums, whose registers must not be indexed by a variable
#pragma GCC unroll 32
    for (int g = 0; g < kRows; ++g) totals[g] = Op::totals(sum[g]);
    const int halvings = l + 1 < task_.level_count ? task_.level[l + 1].shift - task_.level[l].shift : 1;
    const int64_t parent = l + 1 < task_.level_count ? column - (above_first_[l] << (2 * halvings)) : 0;
    const Reg scale = Op::load(coded.scale + column), slack = Op::load(coded.slack + column);
    const Reg reach = Op::load(coded.reach + column), raised = Op::load(coded.raised + column);
    const typename Op::Int offset = Op::load_int(coded.offset + column);
    Reg bounds[kRows];
    uint32_t passing = 0;
#pragma GCC unroll 8
    for (int k = 0; k < Quads; ++k) {
        const Reg base = Op::expand(coded.bases[first + k], parent, halvings);
        const Quad& quad = coded.quads[open[k]];
        const Reg rest = Op::fma(reach, Op::broadcast(&quad.error), Op::add(base, slack));
#pragma GCC unroll 4
        for (int g = 0; g < kGroup; ++g) {
            const Reg dot = Op::to_float(Op::sub_int(totals[k * kGroup + g], offset));
            const Reg bound = Op::fma(Op::mul(scale, Op::broadcast(quad.factor + g)), dot,
                                      Op::add(rest, Op::broadcast(quad.norm + g)));
            if (l > 0) {
                const Reg most = Op::max(bound, base);
                Op::store(coded.bounds + kept * Op::lanes, most);
                coded.rows[kept] = open[k] * static_cast<int32_t>(kGroup) + g;
                kept += first + k < count && Op::at_most(most, raised);
            } else {
                bounds[k * kGroup + g] = bound;
                passing |= Op::at_most(bound, raised);
            }
        }
    }
    if (passing) [[unlikely]]
        decide_quads(column, open, kRows, bounds);
    return kept;
}

}  // namespace spadeline
