// The dense path's decisions: which pairs are computed in float64, in which order, and what that changes. These are
// members of Dense.
#pragma once

#include <cstdint>

#include "matcher/cpu/dense.hpp"

namespace spadeline {

// Step 4: the pairs whose bound beats their query's threshold. The lowest bound comes first: neighbouring rows are
// alike, and the threshold that one of them leaves often rules the others out.
template <class Op>
void Dense<Op>::decide(int64_t row, int64_t column, const Reg* bounds, int rows) {
    float bound[Op::rows][Op::lanes];
    for (int g = 0; g < rows; ++g) Op::store(bound[g], bounds[g]);
    for (int lane = 0; lane < Op::lanes; ++lane) {
        const int64_t q = column + lane;
        uint32_t open = 0;
        for (int g = 0; g < rows; ++g) open |= static_cast<uint32_t>(!(bound[g][lane] > thresholds_[q])) << g;
        if (open == 0 || !wanted(q)) continue;
        while (open) {
            int lowest = __builtin_ctz(open);
            for (int g = lowest + 1; g < rows; ++g)
                if (open >> g & 1 && !(bound[g][lane] >= bound[lowest][lane])) lowest = g;
            open &= ~(1u << lowest);
            if (!(bound[lowest][lane] > thresholds_[q])) consider(q, row + lowest);
        }
    }
}

// Computes the pairs whose bound doesn't exceed their query's threshold, the lowest bound first.
template <class Op>
void Dense<Op>::decide_quads(int64_t column, const int32_t* quads, int count, const Reg* bounds) {
    const float* raised = level_[0].coded.raised + column;
    const Reg thresholds = Op::load(raised);
    float bound[kQuads<Op> * kGroup][Op::lanes];
    uint32_t open[Op::lanes] = {}, lanes = 0;
    for (int g = 0; g < count; ++g) {
        Op::store(bound[g], bounds[g]);
        const uint32_t passing = Op::at_most(bounds[g], thresholds);
        lanes |= passing;
        for (uint32_t rest = passing; rest; rest &= rest - 1) open[__builtin_ctz(rest)] |= uint32_t{1} << g;
    }
    for (; lanes; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        if (!wanted(column + lane)) continue;
        for (uint32_t rest = open[lane]; rest;) {
            int lowest = __builtin_ctz(rest);
            for (uint32_t others = rest & (rest - 1); others; others &= others - 1)
                if (bound[__builtin_ctz(others)][lane] < bound[lowest][lane]) lowest = __builtin_ctz(others);
            rest &= ~(uint32_t{1} << lowest);
            if (bound[lowest][lane] <= raised[lane])
                consider(column + lane, int64_t{quads[lowest / kGroup]} * kGroup + lowest % kGroup);
        }
    }
}

// Whether codes leave more pairs to float64 than features would take to rule them out. Where distances are all equal to
// a few parts in a thousand, codes rule out none. On images they leave one pair in some thousands, beside those that a
// position needs before its threshold is of use. Or whether more pairs are multiplied as codes than pays on this
// instruction set.
template <class Op>
bool Dense<Op>::flooded() const {
    if (!coded_) return false;
    if (considered_ > (kFirstPairs + 4 * task_.kappa) * queries_ + pairs_ / kLeastPairs) return true;
    const double most = Op::most_coded * static_cast<double>(pairs_);
    return Op::most_coded < 1 && pairs_ >= kSample && static_cast<double>(opened_) > most;
}

template <class Op>
void Dense<Op>::consider(int64_t q, int64_t row) {
    if (row >= level_[0].row_count) return;  // a place that fills up a record of codes
    const int64_t gallery = chunk_first_ * level_[0].block + row;
    if (task_.raster[gallery] < 0) return;
    if (!within_window(cell_of(q / level_[0].block), gallery / level_[0].block)) return;
    ++considered_;
    Neighbour* best = best_of(q);
    insert<Op>(best, task_.kappa,
               {distance(level_[0].query_first + q, row), static_cast<int32_t>(image_),
                static_cast<int32_t>(task_.raster[gallery])});
    const float threshold = found_threshold(q);
    if (threshold < thresholds_[q]) set_threshold(q, threshold);
}

// Pairs beyond it aren't among the kappa nearest, or aren't asked for. Minus infinity for a position that is
// searched no further.
template <class Op>
float Dense<Op>::found_threshold(int64_t q) const {
    if (task_.enough >= 0 && mean_distance(best_of(q), task_.kappa) <= task_.enough) return -__builtin_inff();
    const float found = threshold_of<Op>(best_of(q)[task_.kappa - 1].distance);
    return task_.caps && task_.caps[place(q)] < found ? task_.caps[place(q)] : found;
}

template <class Op>
void Dense<Op>::set_threshold(int64_t q, float threshold) {
    thresholds_[q] = threshold;
    if (coded_) set_coded_threshold(q);
}

template <class Op>
double Dense<Op>::distance(int64_t query, int64_t row) const {
    double sum = 0;
    for (int l = 0; l < task_.level_count; ++l) {
        const int halvings = 2 * task_.level[l].shift;
        const int64_t channels = level_[l].channels;
        sum += task_.level[l].weight *
               (task_.bilinear && l > 0 ? interpolated_distance(l, query, row)
                                        : squared_distance<Op>(task_.level[l].query + (query >> halvings) * channels,
                                                               features(l, row >> halvings), channels));
    }
    return sum;
}

}  // namespace spadeline
