// Lists of the kappa nearest, an entry for each lane. Ties go to the smaller (image, y, x).
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

__device__ __forceinline__ Neighbour nobody() { return {HUGE_VAL, INT32_MAX, INT32_MAX}; }

__device__ __forceinline__ bool before(const Neighbour& a, const Neighbour& b) {
    if (a.distance != b.distance) return a.distance < b.distance;
    return a.image != b.image ? a.image < b.image : a.raster < b.raster;
}

__device__ __forceinline__ Neighbour shuffled(const Neighbour& mine, int lane) {
    return {__shfl_sync(kLanes, mine.distance, lane), __shfl_sync(kLanes, mine.image, lane),
            __shfl_sync(kLanes, mine.raster, lane)};
}

// Puts a candidate, which all lanes know, into a list whose k-th entry is lane k's. Returns whether it has a place
// there.
__device__ __forceinline__ bool place(Neighbour& mine, const Neighbour& candidate, int kappa) {
    const int lane = lane_index();
    const unsigned behind = __ballot_sync(kLanes, lane < kappa && before(candidate, mine));
    if (!behind) return false;
    const int at = __ffs(static_cast<int>(behind)) - 1;
    const Neighbour previous = shuffled(mine, lane > 0 ? lane - 1 : 0);
    if (lane >= at) mine = lane == at ? candidate : previous;
    return true;
}

// Raises a distance by what roundings may lift a bound, to the smallest float that isn't below that.
__device__ __forceinline__ float pruning_threshold(double distance) {
    constexpr float most = 3.402823466e38f;  // FLT_MAX
    const double raised = distance * (1 + 0x1p-18);
    if (!(raised < static_cast<double>(most))) return most;
    const auto result = static_cast<float>(raised);
    return static_cast<double>(result) < raised ? __uint_as_float(__float_as_uint(result) + 1) : result;
}

// Lowers a finest position's threshold and those above it: a position's is the largest of its children's.
__device__ __forceinline__ void lower_thresholds(const DeviceTask& task, int64_t position, float threshold) {
    if (lane_index() == 0) lower(task.level[0].thresholds + position, threshold);
    for (int l = 1; l < task.level_count; ++l) {
        __threadfence();  // if two warps lower two children, at least one of them sees both
        __syncwarp();
        const int children = task.level[l - 1].block / task.level[l].block;
        position /= children;
        const float* below = task.level[l - 1].thresholds + position * children;
        float largest = -HUGE_VALF;
        for (int c = lane_index(); c < children; c += kWarp) largest = fmaxf(largest, fresh(below + c));
        largest = largest_of(largest);
        if (!__any_sync(kLanes, largest < fresh(task.level[l].thresholds + position))) return;
        if (lane_index() == 0) lower(task.level[l].thresholds + position, largest);
    }
}

// Inserts a neighbour into a finest position's first list, by one warp, under the list's lock.
__device__ __forceinline__ void insert(const DeviceTask& task, int64_t position, const Neighbour& candidate) {
    const int lane = lane_index();
    if (lane == 0)
        while (atomicCAS(task.locks + position, 0, 1) != 0) __nanosleep(64);
    __threadfence();  // behind the barrier all lanes see what the last holder of the lock wrote
    __syncwarp();
    Neighbour* entry = task.best + position * task.kappa + lane;
    Neighbour mine = nobody();
    if (lane < task.kappa) mine = {fresh(&entry->distance), fresh(&entry->image), fresh(&entry->raster)};
    const bool placed = place(mine, candidate, task.kappa);
    if (placed) {
        if (lane < task.kappa) *entry = mine;
        __syncwarp();
        __threadfence();  // the lane that unlocks publishes the stores of all lanes that it met at the barrier
    }
    if (lane == 0) atomicExch(task.locks + position, 0);
    if (!placed) return;
    const float threshold = pruning_threshold(__shfl_sync(kLanes, mine.distance, task.kappa - 1));
    if (__any_sync(kLanes, threshold < fresh(task.level[0].thresholds + position)))
        lower_thresholds(task, position, threshold);
}

}  // namespace spadeline::cuda
