// Steps 3 and 4 of the pruned path: which gallery cells are visited, by which warp, and when a cell of the query is
// given up.
//
//     prepare   empty lists; thresholds that rule nothing out, or everything where nothing is scored
//     seed      a block a cell: each of its warps visits the gallery cell of the lowest bound in its share
//     sweep     as many warps as the device runs at once: each takes batches of 32 bounds of a query cell, visits the
//               gallery cells whose bound doesn't exceed the cell's threshold, and then helps with other query cells
//
// Warps share thresholds, which only fall, and lists, which are locked while they are changed; otherwise they never
// wait for each other. The order of visits changes what is ruled out, never what is found.
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/descend.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

inline constexpr int kPrepareThreads = 128, kSeedThreads = 256, kSweepThreads = 128;
// Blocks of a multiprocessor: with its 2^16 registers each of 4 x 128 threads has 128, which three levels need.
inline constexpr int kSweepBlocks = 4;
// A warp checks a cell's budget each time it has spent so much on it: a batch may cost half of a budget, and many warps
// work on batches of one cell at the same time.
inline constexpr unsigned kLookEvery = 4096;

// Gallery cells of one image within the window of a query cell.
__device__ __forceinline__ int64_t cells_within(const DeviceTask& task, int64_t cell) {
    if (task.window < 0) return task.cells;
    const auto seen = [&](int64_t at, int64_t count) {
        const int64_t first = at > task.window ? at - task.window : 0;
        const int64_t last = count - 1 - at > task.window ? at + task.window : count - 1;
        return last - first + 1;
    };
    return seen(cell / task.cell_columns, task.cells / task.cell_columns) *
           seen(cell % task.cell_columns, task.cell_columns);
}

// A block prepares a cell of the query.
__global__ void __launch_bounds__(kPrepareThreads) prepare_kernel(const __grid_constant__ DeviceTask task) {
    const int64_t cell = blockIdx.x;
    int any = 0;
    for (int l = 0; l < task.level_count; ++l) {
        const DeviceLevel& level = task.level[l];
        const int children = l > 0 ? task.level[l - 1].block / level.block : 0;
        any = 0;
        for (int64_t i = cell * level.block + threadIdx.x; i < (cell + 1) * level.block; i += kPrepareThreads) {
            bool scored = false;
            if (l == 0) {
                scored = level.raster[i] >= 0 && !(task.ignore && task.ignore[level.raster[i]]);
                task.scored[i] = scored;
                task.locks[i] = 0;
                for (int k = 0; k < task.kappa; ++k) task.best[i * task.kappa + k] = nobody();
            } else {
                for (int64_t c = i * children; c < (i + 1) * children; ++c)
                    scored |= task.level[l - 1].thresholds[c] >= 0;
            }
            level.thresholds[i] = scored ? pruning_threshold(nobody().distance) : -HUGE_VALF;
            any |= scored;
        }
        any = __syncthreads_or(any);
    }
    if (threadIdx.x != 0) return;
    task.taken[cell] = any ? 0 : UINT32_MAX / 2;  // no batch is left to take
    task.spent[cell] = 0;
    task.given_up[cell] = 0;
    if (cell == 0) *task.guarded_count = 0;
    if (any) add(task.counters, static_cast<uint64_t>(cells_within(task, cell) * task.image_count));
}

// One query cell's bounds, image by image.
__device__ __forceinline__ float* bounds_of(const DeviceTask& task, int64_t cell) {
    return task.bounds + (cell - task.first_cell) * task.stride;
}

template <int kLevels>
__device__ __forceinline__ bool visit(const DeviceTask& task, Descent<kLevels>& descent, int cell, int64_t at,
                                      float bound) {
    const int64_t width = task.panels * kPanel;
    return descent.visit(cell, static_cast<int>(at / width), static_cast<int>(at % width), bound);
}

template <int kLevels>
__global__ void __launch_bounds__(kSeedThreads) seed_kernel(const __grid_constant__ DeviceTask task) {
    const int64_t cell = task.first_cell + blockIdx.x;
    if (cell >= task.cells) return;
    Descent<kLevels> descent(task);
    float* bounds = bounds_of(task, cell);
    float lowest = HUGE_VALF;
    unsigned at = 0;
    for (int64_t i = threadIdx.x; i < task.stride; i += kSeedThreads)
        if (bounds[i] < lowest) lowest = bounds[i], at = static_cast<unsigned>(i);
    const float least = __uint_as_float(smallest_of(__float_as_uint(lowest)));
    at = smallest_of(lowest == least ? at : UINT32_MAX);
    if (!descent.open_lanes(static_cast<int>(cell), least)) return;
    if (lane_index() == 0) bounds[at] = HUGE_VALF;  // visited
    visit(task, descent, static_cast<int>(cell), at, least);
    const uint64_t cost = descent.cost();
    if (lane_index() == 0) add(task.spent + cell, cost);
    descent.report();
}

__device__ __forceinline__ unsigned batches_of(const DeviceTask& task) {
    return static_cast<unsigned>(ceil_div(task.stride, kWarp));
}

// Adds to what a cell has cost, by one lane. Returns whether it has spent its budget.
__device__ __forceinline__ bool charge(const DeviceTask& task, int64_t cell, uint64_t cost) {
    return add(task.spent + cell, cost) + cost >= task.budget;
}

// Leaves a cell to the dense path, by one lane. No warp takes any more of its batches.
__device__ __forceinline__ void give_up(const DeviceTask& task, int64_t cell) {
    if (atomicExch(task.given_up + cell, 1u) != 0) return;
    task.guarded[atomicAdd(task.guarded_count, 1)] = static_cast<int32_t>(cell);
    add(task.counters + kMaxLevels + 2, uint64_t{1});
    atomicMax(task.taken + cell, batches_of(task));
}

// Takes a cell's next batch of 32 bounds and charges the warp's cost so far to the cell. Returns a negative number if
// there is no batch, or the cell is given up.
__device__ __forceinline__ int64_t take(const DeviceTask& task, int64_t cell, uint64_t cost) {
    unsigned batch = 0;
    int there = 0;
    if (lane_index() == 0) {
        batch = atomicAdd(task.taken + cell, 1u);
        there = batch < batches_of(task);
        if (charge(task, cell, cost)) {
            if (there) give_up(task, cell);
            there = 0;
        }
    }
    batch = __shfl_sync(kLanes, batch, 0);
    return __shfl_sync(kLanes, there, 0) ? int64_t{batch} : -1;
}

// Within a batch: whether the cell has spent its budget, and so is given up.
__device__ __forceinline__ bool too_much(const DeviceTask& task, int64_t cell, uint64_t cost) {
    int spent = 0;
    if (lane_index() == 0) {
        spent = charge(task, cell, cost);
        if (spent) give_up(task, cell);
    }
    return __shfl_sync(kLanes, spent, 0);
}

// Returns a cell of the band that has batches left. The search starts `warp` cells behind `cell`, so that warps spread
// over the cells. Negative if there is none.
__device__ __forceinline__ int64_t next_cell(const DeviceTask& task, int64_t cell, int64_t warp) {
    const unsigned batches = batches_of(task);
    const int64_t end = task.first_cell + task.band < task.cells ? task.first_cell + task.band : task.cells;
    const int64_t band = end - task.first_cell, start = cell - task.first_cell + warp % band;
    for (int64_t i = 0; i < band; i += kWarp) {
        const int64_t candidate = task.first_cell + (start + i + lane_index()) % band;
        const unsigned open = __ballot_sync(kLanes, fresh(task.taken + candidate) < batches);
        if (open) return task.first_cell + (start + i + __ffs(static_cast<int>(open)) - 1) % band;
    }
    return -1;
}

template <int kLevels>
__global__ void __launch_bounds__(kSweepThreads, kSweepBlocks) sweep_kernel(const __grid_constant__ DeviceTask task) {
    const int64_t warp = int64_t{blockIdx.x} * (kSweepThreads / kWarp) + warp_index();
    Descent<kLevels> descent(task);
    for (int64_t cell = next_cell(task, task.first_cell, warp); cell >= 0;) {
        const int64_t batch = take(task, cell, descent.cost());
        if (batch < 0) {
            cell = next_cell(task, cell, warp);
            continue;
        }
        const int64_t first = batch * kWarp;
        const float* bounds = bounds_of(task, cell);
        const float bound = first + lane_index() < task.stride ? bounds[first + lane_index()] : HUGE_VALF;
        unsigned open = descent.open_lanes(static_cast<int>(cell), bound);
        while (open) {
            const int chosen = __ffs(static_cast<int>(open)) - 1;
            open &= open - 1;
            if (visit(task, descent, static_cast<int>(cell), first + chosen, __shfl_sync(kLanes, bound, chosen)))
                open &= descent.open_lanes(static_cast<int>(cell), bound);
            if (open && descent.spent() >= kLookEvery && too_much(task, cell, descent.cost())) break;
        }
    }
    descent.report();
}

// Empties the lists of the cells that were given up: the dense path finds their neighbours again, except those that
// thresholds rule out.
__global__ void __launch_bounds__(kPrepareThreads) reset_kernel(const __grid_constant__ DeviceTask task) {
    const int64_t entries = int64_t{task.level[0].block} * task.kappa, all = task.level[0].positions * task.kappa;
    for (int i = static_cast<int>(blockIdx.x); i < *task.guarded_count; i += static_cast<int>(gridDim.x))
        for (int64_t e = threadIdx.x; e < entries * task.splits; e += kPrepareThreads)
            task.best[e / entries * all + task.guarded[i] * entries + e % entries] = nobody();
}

// Leaves every cell to the dense path, if there are no codes.
__global__ void __launch_bounds__(kPrepareThreads) give_up_kernel(const __grid_constant__ DeviceTask task) {
    const int64_t cell = int64_t{blockIdx.x} * kPrepareThreads + threadIdx.x;
    if (cell == 0) *task.guarded_count = static_cast<int32_t>(task.cells);
    if (cell >= task.cells) return;
    task.guarded[cell] = static_cast<int32_t>(cell);
    task.given_up[cell] = 1;
}

inline cudaError_t launch_prepare(const DeviceTask& task, cudaStream_t stream) {
    return launch(prepare_kernel, static_cast<unsigned>(task.cells), kPrepareThreads, 0, stream, task);
}

inline cudaError_t launch_give_up(const DeviceTask& task, cudaStream_t stream) {
    return launch(give_up_kernel, blocks_for(task.cells, kPrepareThreads), kPrepareThreads, 0, stream, task);
}

inline cudaError_t launch_reset(const DeviceTask& task, int multiprocessors, cudaStream_t stream) {
    return launch(reset_kernel, static_cast<unsigned>(multiprocessors), kPrepareThreads, 0, stream, task);
}

template <int kLevels>
cudaError_t launch_refine_of(const DeviceTask& task, int multiprocessors, cudaStream_t stream) {
    if (const cudaError_t error =
            launch(seed_kernel<kLevels>, static_cast<unsigned>(task.band), kSeedThreads, 0, stream, task))
        return error;
    const auto blocks = static_cast<unsigned>(multiprocessors * kSweepBlocks);
    return launch(sweep_kernel<kLevels>, blocks, kSweepThreads, 0, stream, task);
}

// Refines the band of query cells that has been bounded.
inline cudaError_t launch_refine(const DeviceTask& task, int multiprocessors, cudaStream_t stream) {
    static_assert(kMaxLevels == 4);
    switch (task.level_count) {
        case 1:
            return launch_refine_of<1>(task, multiprocessors, stream);
        case 2:
            return launch_refine_of<2>(task, multiprocessors, stream);
        case 3:
            return launch_refine_of<3>(task, multiprocessors, stream);
        default:
            return launch_refine_of<4>(task, multiprocessors, stream);
    }
}

}  // namespace spadeline::cuda
