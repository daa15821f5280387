// What the dense path reads of a chunk before it multiplies: the rows, and their norms for the filter. These are
// members of Dense.
#pragma once

#include <cstdint>

#include "matcher/cpu/dense.hpp"

namespace spadeline {

template <class Op>
const float* Dense<Op>::load_rows(int l, int64_t cell_count) {
    Level& level = level_[l];
    const int64_t first = (image_ * task_.cells + chunk_first_) * level.block * level.channels;
    level.row_count = cell_count * level.block;
    if (!level.multiplied) {
        load_codes(l);
        return nullptr;
    }
    if (task_.storage == Storage::float16) {
        Op::widen(static_cast<const uint16_t*>(task_.level[l].gallery) + first, level.widened,
                  level.row_count * level.channels);
        return level.rows = level.widened;
    }
    return level.rows = static_cast<const float*>(task_.level[l].gallery) + first;
}

// Filter norms of positions [first, first + count) of the level first_normed(), this and coarser levels together.
template <class Op>
void Dense<Op>::norms(const float* const* rows, int64_t first, int64_t count, float* out) {
    const int finest = first_normed();
    int64_t channels = 0;
    for (int l = finest; l < task_.level_count; ++l) channels += level_[l].channels;
    Norms level[kMaxLevels];
    for (int l = 1; l < task_.level_count && task_.bilinear; ++l) measure_taps(l, rows[l], tap_norms_[l]);
    for (int64_t i = first; i < first + count; ++i) {
        Norms sum{0, 0, 0};
        for (int l = finest; l < task_.level_count; ++l) {
            const int halvings = 2 * (task_.level[l].shift - task_.level[finest].shift);
            if (task_.bilinear && l > 0) {
                level[l] = interpolated_norms(l, i, rows[l], tap_norms_[l]);
            } else if (i == first || (i & ((int64_t{1} << halvings) - 1)) == 0) {
                const double norm =
                    squared_distance<Op>(rows[l] + (i >> halvings) * level_[l].channels, nullptr, level_[l].channels);
                level[l] = {norm, norm, norm};
            }
            sum.norm += task_.level[l].weight * level[l].norm;
            sum.magnitude += task_.level[l].weight * level[l].magnitude;
            sum.largest += task_.level[l].weight * level[l].largest;
        }
        out[i - first] = filter_norm<Op>(sum, channels);
    }
}

// A row of the chunk, in float32.
template <class Op>
const float* Dense<Op>::features(int l, int64_t row) const {
    const Level& level = level_[l];
    if (level.multiplied) return level.rows + row * level.channels;
    const int64_t at = ((image_ * task_.cells + chunk_first_) * level.block + row) * level.channels;
    if (task_.storage == Storage::float32) return static_cast<const float*>(task_.level[l].gallery) + at;
    Op::widen(static_cast<const uint16_t*>(task_.level[l].gallery) + at, level.widened, level.channels);
    return level.widened;
}

}  // namespace spadeline
