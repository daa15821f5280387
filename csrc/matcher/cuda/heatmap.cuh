// The anomaly map of heatmap.hpp in three launches:
//
//     values     distances to float32, 0 where they aren't scored
//     rows       the map's rows, enlarged in shared memory and smoothed along x
//     columns    smoothed along y, divided, compared with theta; the maximum
//
// The enlarged map is never written to memory. A Gaussian may have any length: its weights are taken in slices, each
// with the pixels that it is multiplied with. Pixels beyond the border are mirrored, several times if need be.
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/device.cuh"
#include "matcher/cuda/heatmap.hpp"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

inline constexpr int kHeatmapThreads = 256;
inline constexpr int kSliceTaps = 64;  // weights at a time: their pixels take 12 KB of shared memory
inline constexpr int kTileRows = 32;   // rows of a block, whose 32 columns have a lane each
inline constexpr int kRowsPerWarp = kTileRows / (kHeatmapThreads / kWarp);

__global__ void __launch_bounds__(kHeatmapThreads)
    heatmap_values_kernel(HeatmapTask task, const double* distances, bool root, float* maximum) {
    const int64_t i = int64_t{blockIdx.x} * kHeatmapThreads + threadIdx.x;
    if (i == 0) *maximum = 0;  // the map is never negative
    if (i >= int64_t{task.height} * task.width) return;
    const bool scored = !task.scored || task.scored[i] != 0;
    task.values[i] = !scored ? 0.0f : static_cast<float>(root ? sqrt(distances[i]) : distances[i]);
}

// The CPU's map has the same roundings, so the multiply-add isn't left to the compiler.
__device__ __forceinline__ float mix(float first, float next, float part) {
    return fmaf(next, part, first * (1 - part));
}

__device__ __forceinline__ float bilinear(const float* values, int width, Place y, Place x) {
    const float* upper = values + int64_t{y.first} * width + x.first;
    const float* lower = y.part > 0 ? upper + width : upper;
    const int next = x.part > 0;
    return mix(mix(upper[0], upper[next], x.part), mix(lower[0], lower[next], x.part), y.part);
}

// S * bilinear(s * distances) / bilinear(s). A scored pixel's own distance is scored and weighs at least 1/4.
__device__ __forceinline__ float enlarged(const HeatmapTask& task, int y, int x) {
    if (task.ignore && task.ignore[int64_t{y} * task.map_width + x]) return 0;
    const Place place_y = task.place_y[y], place_x = task.place_x[x];
    const float value = bilinear(task.values, task.width, place_y, place_x);
    return task.scored ? value / bilinear(task.scored, task.width, place_y, place_x) : value;
}

// Pixel i of a line of `count` pixels that is mirrored at both ends without limit; the end pixels are repeated.
__device__ __forceinline__ int mirrored(int i, int count) {
    if (i >= 0 && i < count) return i;
    const int along = i % (2 * count), from = along < 0 ? along + 2 * count : along;
    return from < count ? from : 2 * count - 1 - from;
}

// A thread has a pixel of row blockIdx.x.
__global__ void __launch_bounds__(kHeatmapThreads) heatmap_rows_kernel(HeatmapTask task) {
    auto* window = reinterpret_cast<float*>(shared_memory());  // (kHeatmapThreads + kSliceTaps - 1)
    const auto y = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    const int first = static_cast<int>(blockIdx.y) * kHeatmapThreads, side = 2 * task.radius + 1;
    float sum = 0;
    for (int begin = 0; begin < side; begin += kSliceTaps) {
        const int taps = side - begin < kSliceTaps ? side - begin : kSliceTaps;
        for (int i = thread; i < kHeatmapThreads + taps - 1; i += kHeatmapThreads)
            window[i] = enlarged(task, y, mirrored(first - task.radius + begin + i, task.map_width));
        __syncthreads();
        for (int k = 0; k < taps; ++k) sum = fmaf(window[thread + k], task.weights[begin + k], sum);
        __syncthreads();
    }
    if (first + thread < task.map_width) task.rows[int64_t{y} * task.map_width + first + thread] = sum;
}

// A lane has a column, a warp kRowsPerWarp rows of it.
__global__ void __launch_bounds__(kHeatmapThreads)
    heatmap_columns_kernel(HeatmapTask task, float theta, float* map, uint8_t* mask, float* maximum) {
    auto* window = reinterpret_cast<float*>(shared_memory());  // (kTileRows + kSliceTaps - 1, kWarp)
    const int lane = lane_index(), row = warp_index() * kRowsPerWarp;
    const int x = static_cast<int>(blockIdx.x) * kWarp + lane, first = static_cast<int>(blockIdx.y) * kTileRows;
    const int column = x < task.map_width ? x : task.map_width - 1, side = 2 * task.radius + 1;
    float sum[kRowsPerWarp] = {};
    for (int begin = 0; begin < side; begin += kSliceTaps) {
        const int taps = side - begin < kSliceTaps ? side - begin : kSliceTaps;
        for (int i = warp_index(); i < kTileRows + taps - 1; i += kHeatmapThreads / kWarp) {
            const int y = mirrored(first - task.radius + begin + i, task.map_height);
            window[i * kWarp + lane] = task.rows[int64_t{y} * task.map_width + column];
        }
        __syncthreads();
        for (int k = 0; k < taps; ++k)
#pragma unroll
            for (int j = 0; j < kRowsPerWarp; ++j)
                sum[j] = fmaf(window[(row + j + k) * kWarp + lane], task.weights[begin + k], sum[j]);
        __syncthreads();
    }
    float largest = 0;
#pragma unroll
    for (int j = 0; j < kRowsPerWarp; ++j) {
        const int y = first + row + j;
        if (y >= task.map_height || x >= task.map_width) continue;
        const int64_t at = int64_t{y} * task.map_width + x;
        float value = task.ignore && task.ignore[at] ? 0.0f : sum[j];
        if (value > 0 && task.divisor) value /= task.divisor[at];
        map[at] = value;
        mask[at] = value > theta;
        largest = fmaxf(largest, value);
    }
    largest = largest_of(largest);
    if (lane == 0)
        atomicMax(reinterpret_cast<int*>(maximum),
                  __float_as_int(largest));  // from 0 on, floats are in the order of their bits
}

inline cudaError_t launch_heatmap(const HeatmapTask& task, const double* distances, bool root, float theta, float* map,
                                  uint8_t* mask, float* maximum, cudaStream_t stream) {
    constexpr size_t row_bytes = (kHeatmapThreads + kSliceTaps - 1) * sizeof(float);
    constexpr size_t column_bytes = (kTileRows + kSliceTaps - 1) * kWarp * sizeof(float);
    const dim3 rows(static_cast<unsigned>(task.map_height), blocks_for(task.map_width, kHeatmapThreads));
    const dim3 columns(blocks_for(task.map_width, kWarp), blocks_for(task.map_height, kTileRows));
    if (const cudaError_t error =
            launch(heatmap_values_kernel, blocks_for(int64_t{task.height} * task.width, kHeatmapThreads),
                   kHeatmapThreads, 0, stream, task, distances, root, maximum))
        return error;
    if (const cudaError_t error = launch(heatmap_rows_kernel, rows, kHeatmapThreads, row_bytes, stream, task))
        return error;
    return launch(heatmap_columns_kernel, columns, kHeatmapThreads, column_bytes, stream, task, theta, map, mask,
                  maximum);
}

}  // namespace spadeline::cuda
