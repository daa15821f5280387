// Step 6 of the pruned path: float64 decides, and thresholds fall. These are members of Refine.
#pragma once

#include <cstdint>

#include "matcher/cpu/refine.hpp"

namespace spadeline {

template <class Op>
void Refine<Op>::decide(int64_t query, int64_t gallery) {
    const LevelTask& finest = task_.level[0];
    if (task_.raster[gallery] < 0) return;
    ++counts_.exact;
    double sum = 0;
    for (int l = 0; l < task_.level_count; ++l) {
        const double part = l == 0 ? distance(0, query, gallery) : exact(l, query >> (2 * task_.level[l].shift));
        sum += task_.level[l].weight * part;
    }
    const int64_t position = cell_ * finest.block + query;
    insert<Op>(task_.best + position * task_.kappa, task_.kappa,
               {sum, static_cast<int32_t>(image_), static_cast<int32_t>(task_.raster[gallery])});
    const float lowered = threshold(position);
    if (!(lowered < level_[0].thresholds[query])) return;
    level_[0].thresholds[query] = lowered;
    for (int l = 1; l < task_.level_count; ++l) lower_threshold(l, query >> (2 * task_.level[l].shift));
}

template <class Op>
double Refine<Op>::distance(int l, int64_t query, int64_t gallery) {
    const LevelTask& level = task_.level[l];
    budget_ -= kExactCost + kExactChannel * level.channels;
    const int64_t at = (image_ * level.positions + gallery) * level.channels;
    const float* row = static_cast<const float*>(level.gallery) + at;
    if (task_.storage == Storage::float16) {
        Op::widen(static_cast<const uint16_t*>(level.gallery) + at, level_[l].widened, level.channels);
        row = level_[l].widened;
    }
    return squared_distance<Op>(level.query + (cell_ * level.block + query) * level.channels, row, level.channels);
}

// By how much the exact distance of the pair that was entered exceeds its bound, summed over all levels from l up.
template <class Op>
float Refine<Op>::excess_of(int l, int64_t query, float bound) {
    double sum = 0;
    for (int k = l; k < task_.level_count; ++k)
        sum += task_.level[k].weight * exact(k, query >> (2 * (task_.level[k].shift - task_.level[l].shift)));
    if (!(sum < kLargestSum)) sum = kLargestSum;
    const float excess = static_cast<float>(sum - static_cast<double>(bound));
    return excess > 0 ? excess : 0;
}

template <class Op>
double Refine<Op>::exact(int l, int64_t query) {
    Level& level = level_[l];
    if (!level.known) level.exact = distance(l, query, level.gallery), level.known = true;
    return level.exact;
}

// A position's threshold is the largest of its children's.
template <class Op>
void Refine<Op>::lower_threshold(int l, int64_t i) {
    const int64_t children = task_.level[l - 1].block / task_.level[l].block;
    const float* below = level_[l - 1].thresholds + i * children;
    float largest = below[0];
    for (int64_t c = 1; c < children; ++c) largest = below[c] > largest ? below[c] : largest;
    level_[l].thresholds[i] = largest;
}

}  // namespace spadeline
