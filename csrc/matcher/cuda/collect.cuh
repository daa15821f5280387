// The last step: merges each position's lists, and writes its mean distance and its neighbours as (image, y, x).
#pragma once

#include <cstdint>

#include "matcher/cuda/lists.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

inline constexpr int kCollectThreads = 128;

// A warp takes a finest position. distances: (h, w), 0 where ignored; neighbours: (h, w, kappa, 3), -1 where ignored.
__global__ void __launch_bounds__(kCollectThreads)
    collect_kernel(const __grid_constant__ DeviceTask task, double* distances, int32_t* neighbours) {
    const DeviceLevel& finest = task.level[0];
    const int64_t position = int64_t{blockIdx.x} * (kCollectThreads / kWarp) + warp_index();
    if (position >= finest.positions || finest.raster[position] < 0) return;
    const int64_t raster = finest.raster[position];
    const int lane = lane_index();
    int32_t* out = neighbours + raster * task.kappa * 3;
    if (!task.scored[position]) {
        if (lane == 0) distances[raster] = 0;
        for (int i = lane; i < task.kappa * 3; i += kWarp) out[i] = -1;
        return;
    }
    const auto list = [&](int64_t split) {
        return lane < task.kappa ? task.best[(split * finest.positions + position) * task.kappa + lane] : nobody();
    };
    Neighbour best = list(0);
    const int splits = task.given_up[position / finest.block] ? task.splits : 1;
    for (int s = 1; s < splits; ++s) {
        const Neighbour other = list(s);
        int k = 0;
        while (k < task.kappa && place(best, shuffled(other, k), task.kappa)) ++k;
    }
    double sum = 0;
    for (int k = 0; k < task.kappa; ++k) sum += __shfl_sync(kLanes, best.distance, k);
    if (lane == 0) distances[raster] = sum / task.kappa;
    const double last = __shfl_sync(kLanes, best.distance, task.kappa - 1);
    if (lane == 0 && !(last < nobody().distance)) atomicAdd(&task.report->short_lists, 1u);
    if (lane >= task.kappa) return;
    out[3 * lane] = best.image;
    out[3 * lane + 1] = static_cast<int32_t>(best.raster / finest.width);
    out[3 * lane + 2] = static_cast<int32_t>(best.raster % finest.width);
}

inline cudaError_t launch_collect(const DeviceTask& task, double* distances, int32_t* neighbours, cudaStream_t stream) {
    const unsigned blocks = blocks_for(task.level[0].positions, kCollectThreads / kWarp);
    return launch(collect_kernel, blocks, kCollectThreads, 0, stream, task, distances, neighbours);
}

}  // namespace spadeline::cuda
