// Steps 5 and 6 of the pruned path: one warp goes from a pair of cells down the levels, in blocks of 4 x 4 pairs of
// positions.
//
// A block is four positions of the query and four of the gallery that lie under one pair of the level above. Each lane
// multiplies all 16 pairs over its share of the dims, so that a record is read in one piece. A transposing sum then
// gives every pair to two lanes. Projected codes rule most blocks out, rotated codes most pairs of the others. For the
// pairs that are left, distances are computed from features in float32: those of the levels above, and at the finest
// level of all the block's open pairs together. They are lowered by their roundings. What they don't rule out, float64
// decides, nearest first (step 6). Only thresholds and the nearest neighbours are ever written.
#pragma once

#include <cstdint>

#include "matcher/cuda/bound.cuh"
#include "matcher/cuda/features.cuh"
#include "matcher/cuda/lists.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

template <int kLevels>
class Descent {
 public:
    __device__ explicit Descent(const DeviceTask& task) : task_(task) {}

    // Matches all pairs of positions in a pair of cells, the second of the k-th image, whose bound is `bound`. Returns
    // false if the first codes ruled the pair out: then no threshold has changed.
    __device__ bool visit(int query_cell, int k, int gallery_cell, float bound) {
        looked_ = kLevels == 1;
        image_ = static_cast<int32_t>(task_.image_ids[k]);
        slot_ = task_.slots[k];
        count(1 + kLevels - 1, 1);
        enter<kLevels - 1>(query_cell, gallery_cell);
        if constexpr (kLevels > 1) {
            descend<kLevels - 2>(bound);
        } else if (open_lanes(query_cell, lowered_pair<0>())) {
            decide();
        }
        return looked_;
    }

    // Returns the lanes whose bound of a pair of cells doesn't exceed the query cell's threshold. Every decision is a
    // vote of the warp, since another warp may lower a threshold between two lanes' reads.
    __device__ unsigned open_lanes(int query_cell, float bound) const {
        return __ballot_sync(kLanes, bound <= fresh(task_.level[kLevels - 1].thresholds + query_cell));
    }

    // What was done since the last call of `cost`, in a warp's instructions.
    __device__ unsigned spent() const { return cost_; }
    __device__ uint64_t cost() {
        const uint64_t since = cost_;
        cost_ = 0;
        return since;
    }

    __device__ void count(int counter, unsigned events) {
        if (lane_index() == counter) counted_ += events;
    }

    __device__ void report() const {
        if (lane_index() < kMaxLevels + 2 && counted_) add(task_.counters + lane_index(), counted_);
    }

 private:
    // Estimates of a warp's instructions for a block's sums, bounds and votes; for 128 bytes of codes of its positions;
    // for a float32 distance, a block's, and a float64 distance. They steer the guard, not results.
    static constexpr int kBlockCost = 100, kCodeCost = 25, kFloatCost = 60, kFloatBlockCost = 300, kExactCost = 400;

    // Pair i of a block is 4 q + g; its lanes are 2 i and 2 i + 1.
    static __device__ int query_of(int lane) { return lane / 8; }
    static __device__ int gallery_of(int lane) { return lane / 2 % 4; }

    template <int L>
    __device__ void enter(int query, int gallery) {
        query_[L] = query;
        gallery_[L] = gallery;
        lowered_[L] = -1;
        exact_[L] = -1;
    }

    // Matches all pairs of positions of level L under the pair of the level above that was entered, whose bound is
    // `base`.
    template <int L>
    __device__ void descend(float base) {
        const int groups = task_.level[L].block / task_.level[L + 1].block / static_cast<int>(kGroup);
        for (int g = gallery_[L + 1] * groups; g < (gallery_[L + 1] + 1) * groups; ++g)
            for (int q = query_[L + 1] * groups; q < (query_[L + 1] + 1) * groups; ++q) match_block<L>(q, g, base);
    }

    template <int L>
    __device__ void match_block(int query_group, int gallery_group, float base) {
        const DeviceLevel& level = task_.level[L];
        const int lane = lane_index();
        const int query = query_group * 4 + query_of(lane), gallery = gallery_group * 4 + gallery_of(lane);
        const float* threshold = level.thresholds + query;
        float limit = fresh(threshold);  // loaded at the same time as the codes
        if (level.projected.book.dims) {
            const float projected = bound<L>(level.projected, query_group, gallery_group);
            if (!__any_sync(kLanes, base + projected <= limit)) return;
            limit = fresh(threshold);
        }
        looked_ = true;
        float own = bound<L>(level.rotated, query_group, gallery_group);
        bool waiting = L > 0 || level.raster[gallery] >= 0;
        if (!__any_sync(kLanes, waiting && base + own <= limit)) return;
        const float above = fmaxf(base, lowered_from<L + 1>());
        if constexpr (L == 0) {
            waiting = waiting && above + own <= fresh(threshold);
            const unsigned open = __ballot_sync(kLanes, waiting);
            if (!open) return;
            count(1, static_cast<unsigned>(__popc((open | open >> 1) & 0x55555555)));
            own = lowered_block(query_group, gallery_group, open);
        }
        while (true) {  // the nearest first: its distance may rule the others out
            const bool open = waiting && above + own <= fresh(threshold);
            const unsigned lowest = smallest_of(open ? __float_as_uint(own) : kLanes);
            const unsigned lanes = __ballot_sync(kLanes, open && __float_as_uint(own) == lowest);
            if (!lanes) return;
            const int chosen = __ffs(static_cast<int>(lanes)) - 1;
            if (lane / 2 == chosen / 2) waiting = false;
            enter<L>(query_group * 4 + query_of(chosen), gallery_group * 4 + gallery_of(chosen));
            if constexpr (L == 0) {
                decide();
            } else {
                count(1 + L, 1);
                descend<L - 1>(above + __uint_as_float(lowest));
            }
        }
    }

    // The bound of this lane's pair from one kind of codes.
    template <int L>
    __device__ float bound(const DeviceCodes& codes, int query_group, int gallery_group) {
        const int lane = lane_index(), dims = codes.book.dims;
        cost_ += kBlockCost + kCodeCost * static_cast<unsigned>(dims) / 128;
        const uint8_t* query = codes.query + query_group * codes.record;
        const uint8_t* gallery = codes.gallery + (slot_ * codes.groups + gallery_group) * codes.record;
        const Terms a = terms_of(codes, query, query_of(lane)), b = terms_of(codes, gallery, gallery_of(lane));
        int sum[16] = {};
#pragma unroll 1
        for (int i = lane; i < dims / 4; i += kWarp)
            multiply_codes(reinterpret_cast<const uint4*>(query)[i], __ldg(reinterpret_cast<const uint4*>(gallery) + i),
                           sum);
        return static_cast<float>(task_.level[L].weight) * lower_bound(a, b, transposed_sum(sum));
    }

    template <int L>
    __device__ Pair pair() const {
        return {task_, task_.level[L], query_[L], slot_ * task_.level[L].positions + gallery_[L]};
    }

    // The entered pair's float32 distance at level L, lowered by its roundings. It is computed once.
    template <int L>
    __device__ float lowered_pair() {
        if (lowered_[L] < 0) {
            cost_ += kFloatCost;
            lowered_[L] = lowered(task_.level[L], pair<L>().float_distance());
        }
        return lowered_[L];
    }
    template <int L>
    __device__ float lowered_from() {
        if constexpr (L < kLevels) {
            return lowered_pair<L>() + lowered_from<L + 1>();
        } else {
            return 0;
        }
    }

    // That of this lane's pair of finest positions, if the pair is open.
    __device__ float lowered_block(int query_group, int gallery_group, unsigned open) {
        const DeviceLevel& finest = task_.level[0];
        cost_ += kFloatBlockCost;
        const int64_t first = slot_ * finest.positions + gallery_group * 4;
        return lowered(finest, float_distances(task_, finest, query_group * 4, first, open));
    }

    // The entered pairs' distance in float64, summed over level L and those above. Fused explicitly, as in
    // features.cuh.
    template <int L>
    __device__ double exact_from() {
        if constexpr (L < kLevels) {
            if (exact_[L] < 0) {
                cost_ += kExactCost;
                exact_[L] = pair<L>().distance();
            }
            return fma(task_.level[L].weight, exact_[L], exact_from<L + 1>());
        } else {
            return 0;
        }
    }

    __device__ void decide() {
        count(1 + kMaxLevels, 1);
        const double distance = exact_from<0>();
        insert(task_, query_[0], {distance, image_, static_cast<int32_t>(task_.level[0].raster[gallery_[0]])});
    }

    const DeviceTask& task_;
    int32_t image_ = 0;
    int64_t slot_ = 0;
    int query_[kLevels], gallery_[kLevels];  // the positions entered, one a level
    float lowered_[kLevels];                 // negative: not yet computed
    double exact_[kLevels];
    unsigned cost_ = 0, counted_ = 0;  // lane i counts for counter i
    bool looked_ = false;
};

}  // namespace spadeline::cuda
