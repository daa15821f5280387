// The dense path's decision. Pairs that passed the filter wait in a list, one for each query position. When a list is
// half full, and at the end, a warp settles it: it computes distances in float32, lowest bound first. Each distance
// lowers the position's threshold, which rules out most of the other pairs. For those that are left in the end float64
// decides.
//
// One warp at a time works on a position's list, threshold and nearest neighbours, so there are no locks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "matcher/cuda/bilinear.cuh"
#include "matcher/cuda/features.cuh"
#include "matcher/cuda/filter.cuh"
#include "matcher/cuda/lists.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// The argument of the dense path's kernels.
struct DenseTask {
    DeviceTask task;
    DensePlan plan;
    FilterTerms terms;
    const int32_t* query_cells;       // null: all
    const int32_t* query_cell_count;  // likewise
};

// A gallery position, counted through the images asked for, and a lower bound of its distance.
struct Candidate {
    static constexpr uint32_t kMeasured = 1u << 31;  // in `row`: the bound is a distance, less what float32 rounds away
    uint32_t row;
    float bound;
};

// What a block has in shared memory beside the rows that it multiplies.
struct DenseTables {
    float start[kQueryRows / 4][kGalleryRows / 4];  // sums of all coarser levels, where the finest level's start
    uint32_t place[2][kGalleryRows];                // a tile's rows, as finest positions among all slots
    float norm[2][kGalleryRows];
    uint32_t query[kQueryRows];       // finest positions
    float query_norm[kQueryRows];     // lowered, see filter.cuh
    float threshold[kQueryRows];      // negative: isn't scored
    float least[kQueryRows];          // the sum that a pair must reach to pass: see least_sum
    int32_t open[kQueryRows];         // candidates; more than kOpen if some found no room
    int32_t lowest_row, highest_row;  // rows of cells that the query's rows lie in; with a window only
};
static_assert(kDenseTables == round_up(sizeof(DenseTables), 128));

// The sum that a pair's products must reach for its bound not to exceed a threshold.
__device__ __forceinline__ float least_sum(float threshold, float query_norm, float unit) {
    if (threshold < 0) return HUGE_VALF;
    return (query_norm - threshold * (1 + 0x1p-20f)) * unit;
}

// Computes D of a query position and a gallery position (among all slots') by a whole warp: every lane gets it.
template <class T>
__device__ T pair_distance(const DeviceTask& task, uint32_t query, uint32_t place) {
    T total = 0;
    for (int l = task.level_count - 1; l >= 0; --l) {
        const DeviceLevel& level = task.level[l];
        const Pair pair{task, level, query >> (2 * level.shift), place >> (2 * level.shift)};
        total = fma(static_cast<T>(level.weight), pair.summed<T>(), total);
    }
    return total;
}

// The block's lists of candidates: (kQueryRows, kOpen).
__device__ inline Candidate* candidate_lists(const DensePlan& plan) {
    return reinterpret_cast<Candidate*>(plan.workspace) + int64_t{blockIdx.x} * kQueryRows * kOpen;
}

template <bool kBilinear>
class Settler {
 public:
    __device__ Settler(const DenseTask& dense, DenseTables& tables, int split)
        : dense_(dense), task_(dense.task), tables_(tables), split_(split) {}

    // Settles one query row's candidates. None remains if they are the `last`, or would leave too little room for more.
    __device__ void settle(int row, bool last) {
        const int count = std::min(tables_.open[row], int{kOpen});
        Candidate* list = candidate_lists(dense_.plan) + row * kOpen;
        query_ = tables_.query[row];
        const float others = fresh(task_.thresholds + query_);  // another warp may lower it between two lanes' loads
        threshold_ = fminf(tables_.threshold[row], __shfl_sync(kLanes, others, 0));
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int at = lane_index() + 32 * i;
            mine_[i] = at < count ? list[at] : Candidate{Candidate::kMeasured, HUGE_VALF};
        }
        measure();
        compact(list, row, last);
        if (lane_index() != 0) return;
        tables_.threshold[row] = threshold_;
        tables_.least[row] = least_sum(threshold_, tables_.query_norm[row], dense_.terms.unit);
        lower(task_.thresholds + query_, threshold_);
    }

 private:
    __device__ static bool measured(const Candidate& candidate) { return candidate.row & Candidate::kMeasured; }

    __device__ uint32_t place_of(uint32_t row) const {
        const auto positions = static_cast<uint32_t>(task_.level[0].positions);
        return static_cast<uint32_t>(task_.slots[row / positions]) * positions + row % positions;
    }

    // Computes distances in float32, lowest bound first, until every candidate is measured or above the threshold.
    __device__ void measure() {
        for (;;) {
            float bound = HUGE_VALF;
#pragma unroll
            for (const Candidate& candidate : mine_)
                if (!measured(candidate)) bound = fminf(bound, candidate.bound);
            const float lowest = minimum(bound);
            if (!(lowest <= threshold_)) return;
            const int owner = __ffs(static_cast<int>(__ballot_sync(kLanes, bound == lowest))) - 1;
            const int which = !measured(mine_[0]) && mine_[0].bound == lowest ? 0 : 1;
            const int taken = __shfl_sync(kLanes, which, owner);
            const uint32_t row = __shfl_sync(kLanes, taken ? mine_[1].row : mine_[0].row, owner);
            float least;
            if (!rules_out(place_of(row), least)) {
                decide(row);
                least = HUGE_VALF;
            }
#pragma unroll
            for (int i = 0; i < 2; ++i)
                if (lane_index() == owner && i == taken) mine_[i] = {row | Candidate::kMeasured, least};
            if (upper(least) < threshold_) threshold_ = fminf(threshold_, kappa_th_upper());
        }
    }

    // Measures a pair's distance: `least` is the least that it can be. Returns false if float64 has to decide, since
    // the sum may have overflowed, or since interpolation may have cancelled so much that the sum gives no upper bound.
    __device__ bool rules_out(uint32_t place, float& least) const {
        if constexpr (kBilinear) {
            float magnitude;
            const float value = upsampled_distance(task_, query_, place, &magnitude);
            least = least_distance(value, magnitude, dense_.terms);
            return least > threshold_;
        } else {
            const float value = pair_distance<float>(task_, query_, place);
            least = value * (1 - dense_.terms.relative) - dense_.terms.absolute;
            return value < 0x1p120f;
        }
    }

    // The most that the distance of a measured candidate can be.
    __device__ float upper(float least) const {
        return (least + 4 * dense_.terms.absolute) * (1 + 4 * dense_.terms.relative);
    }

    // The kappa-th smallest of the most that the measured candidates' distances can be.
    __device__ float kappa_th_upper() const {
        const auto key = [&](const Candidate& candidate) { return measured(candidate) ? candidate.bound : HUGE_VALF; };
        const float keys[2] = {key(mine_[0]), key(mine_[1])};
        if (task_.kappa == 1) return upper(minimum(fminf(keys[0], keys[1])));
        const int known =
            __popc(__ballot_sync(kLanes, keys[0] < HUGE_VALF)) + __popc(__ballot_sync(kLanes, keys[1] < HUGE_VALF));
        if (known < task_.kappa) return HUGE_VALF;
        int before[2] = {0, 0};
        for (int other = 0; other < 64; ++other) {
            const float theirs = __shfl_sync(kLanes, keys[other / 32], other % 32);
#pragma unroll
            for (int i = 0; i < 2; ++i)
                before[i] += theirs < keys[i] || (theirs == keys[i] && other < lane_index() + 32 * i);
        }
        const float found = before[0] == task_.kappa - 1 ? keys[0] : before[1] == task_.kappa - 1 ? keys[1] : HUGE_VALF;
        return upper(minimum(found));
    }

    __device__ static float minimum(float value) { return -largest_of(-value); }

    // Moves the candidates that are still open to the list's front, or decides them.
    __device__ void compact(Candidate* list, int row, bool last) {
        uint32_t open[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) open[i] = __ballot_sync(kLanes, measured(mine_[i]) && mine_[i].bound <= threshold_);
        const int kept = __popc(open[0]) + __popc(open[1]);
        if (last || kept > kOpen / 2) {
#pragma unroll
            for (int i = 0; i < 2; ++i)
                for (uint32_t left = open[i]; left; left &= left - 1) {
                    const int owner = __ffs(static_cast<int>(left)) - 1;
                    const float bound = __shfl_sync(kLanes, mine_[i].bound, owner);
                    const uint32_t taken = __shfl_sync(kLanes, mine_[i].row, owner);
                    if (bound <= threshold_) decide(taken & ~Candidate::kMeasured);
                }
            if (lane_index() == 0) tables_.open[row] = 0;
            return;
        }
        const uint32_t lower_lanes = (1u << lane_index()) - 1;
#pragma unroll
        for (int i = 0; i < 2; ++i)
            if (open[i] >> lane_index() & 1) list[(i ? __popc(open[0]) : 0) + __popc(open[i] & lower_lanes)] = mine_[i];
        if (lane_index() == 0) tables_.open[row] = kept;
    }

    __device__ double exact_distance(uint32_t place) const {
        if constexpr (kBilinear) {
            return upsampled_distance<double>(task_, query_, place);
        } else {
            return pair_distance<double>(task_, query_, place);
        }
    }

    // Computes the distance in float64 and puts it in its place among the nearest.
    __device__ void decide(uint32_t row) {
        const auto positions = static_cast<uint32_t>(task_.level[0].positions);
        const Neighbour candidate{exact_distance(place_of(row)), static_cast<int32_t>(task_.image_ids[row / positions]),
                                  static_cast<int32_t>(task_.level[0].raster[row % positions])};
        const int lane = lane_index(), kappa = task_.kappa;
        Neighbour* best = task_.best + (split_ * task_.level[0].positions + query_) * kappa;
        Neighbour mine = lane < kappa ? best[lane] : nobody();
        if (!place(mine, candidate, kappa)) return;
        if (lane < kappa) best[lane] = mine;
        threshold_ = fminf(threshold_, pruning_threshold(__shfl_sync(kLanes, mine.distance, kappa - 1)));
    }

    const DenseTask& dense_;
    const DeviceTask& task_;
    DenseTables& tables_;
    const int64_t split_;
    uint32_t query_ = 0;
    float threshold_ = 0;
    Candidate mine_[2];
};

}  // namespace spadeline::cuda
