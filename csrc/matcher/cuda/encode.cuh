// Step 1 of the pruned path: turns the query, (channels, height, width) in float32 or float16, into rows of channels
// and into codes.
//
//     gather     transposes tiles of positions by channels in shared memory, and finds NaN and infinity
//     project    multiplies 32 vectors with 32 directions a block, for projected codes
//     encode     a warp a vector: Hadamard matrix in shared memory, largest component, bytes, terms
//
// The formulas, and the reason why the bounds hold, are those of cpu/encode.hpp. Sums have another order, which the
// counts of roundings in csrc/README.md allow for.
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

inline constexpr int kTile = 32;  // positions and channels of a transposed tile: a warp reads 32 channels at once
inline constexpr int kGatherThreads = 256;
inline constexpr int kProjectThreads = 256;  // four teams, each of which takes every fourth channel
inline constexpr int kTeams = 4, kTeamThreads = kProjectThreads / kTeams;
inline constexpr int kSlice = 64;              // channels at a time: both sides take 18 KB of shared memory
inline constexpr int kTileStride = kTile + 4;  // floats from row to row: rows are read four floats at a time, and start
                                               // in different banks
inline constexpr int kEncodeBytes = 32 << 10;  // shared memory of a block, unless one vector needs more: two blocks
                                               // or more fit a multiprocessor
inline constexpr int kEncodeWarps = 4;         // vectors of a block, at most

// A bad feature is reported as its level, from this bit on, and its index in the level: so the smallest number is the
// first one by (level, channel, y, x). An index needs fewer bits than that: features of 2^56 floats fit no memory.
inline constexpr int kLevelBit = 56;

__device__ __forceinline__ float query_value(const DeviceTask& task, const void* source, int64_t at) {
    return task.query_storage == Storage::float16 ? __half2float(static_cast<const __half*>(source)[at])
                                                  : static_cast<const float*>(source)[at];
}

// Padded positions become rows of zeros.
__global__ void __launch_bounds__(kGatherThreads) gather_kernel(const __grid_constant__ DeviceTask task) {
    const DeviceLevel& level = task.level[blockIdx.z];
    const int64_t first = int64_t{blockIdx.x} * kTile;
    const int first_channel = static_cast<int>(blockIdx.y) * kTile;
    if (first >= level.positions || first_channel >= level.channels) return;
    auto* tile = reinterpret_cast<float*>(shared_memory());  // (channels, kTile + 1)
    const int lane = lane_index(), warps = kGatherThreads / kWarp;
    const int64_t raster = first + lane < level.positions ? level.raster[first + lane] : -1;
    for (int c = warp_index(); c < kTile && first_channel + c < level.channels; c += warps) {
        const int64_t at = (first_channel + c) * level.height * level.width + raster;
        const float value = raster < 0 ? 0.0f : query_value(task, level.source, at);
        tile[c * (kTile + 1) + lane] = value;
        if ((__float_as_uint(value) & 0x7f800000u) == 0x7f800000u)
            atomicMin(reinterpret_cast<unsigned long long*>(&task.report->not_finite),
                      (static_cast<unsigned long long>(blockIdx.z) << kLevelBit) + static_cast<unsigned long long>(at));
    }
    __syncthreads();
    if (first_channel + lane >= level.channels) return;
    for (int i = warp_index(); i < kTile && first + i < level.positions; i += warps)
        level.query[(first + i) * level.channels + first_channel + lane] = tile[lane * (kTile + 1) + i];
}

// Computes the projected codes' y = P (x - mean).
__global__ void __launch_bounds__(kProjectThreads) project_kernel(const __grid_constant__ DeviceTask task) {
    const DeviceLevel& level = task.level[blockIdx.z];
    const DeviceCodebook& book = level.projected.book;
    const int64_t first = int64_t{blockIdx.x} * kTile;
    const int first_dim = static_cast<int>(blockIdx.y) * kTile;
    if (!book.projection || first >= level.positions || first_dim >= book.dims) return;
    auto* rows = reinterpret_cast<float*>(shared_memory());  // (kSlice, kTileStride): x - mean, of each vector
    float* directions = rows + kSlice * kTileStride;         // likewise, of each direction
    const int thread = static_cast<int>(threadIdx.x), team = thread / kTeamThreads;
    const int vector = thread % kTeamThreads / 8 * 4, dim = thread % 8 * 4;  // of a team's 4 x 4 sums a thread
    float sum[4][4] = {};
    for (int begin = 0; begin < level.channels; begin += kSlice) {
        for (int i = thread; i < kTile * kSlice; i += kProjectThreads) {
            const int row = i / kSlice, c = begin + i % kSlice, to = i % kSlice * kTileStride + row;
            const bool there = c < level.channels;
            rows[to] = there && first + row < level.positions
                           ? level.query[(first + row) * level.channels + c] - book.mean[c]
                           : 0.0f;
            directions[to] = there && first_dim + row < book.dims
                                 ? book.projection[int64_t{first_dim + row} * level.channels + c]
                                 : 0.0f;
        }
        __syncthreads();
        for (int c = team; c < kSlice; c += kTeams) {
            const float4 x = *reinterpret_cast<const float4*>(rows + c * kTileStride + vector);
            const float4 p = *reinterpret_cast<const float4*>(directions + c * kTileStride + dim);
            const float xs[4] = {x.x, x.y, x.z, x.w}, ps[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(xs[i], ps[j], sum[i][j]);
        }
        __syncthreads();
    }
    float* sums = rows;  // (kTeams, kTile, kTile)
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) sums[(team * kTile + vector + i) * kTile + dim + j] = sum[i][j];
    __syncthreads();
    for (int i = thread; i < kTile * kTile; i += kProjectThreads) {
        const int64_t row = first + i / kTile;
        const int d = first_dim + i % kTile;
        if (row >= level.positions || d >= book.dims) continue;
        float whole = sums[i];
        for (int t = 1; t < kTeams; ++t) whole += sums[t * kTile * kTile + i];
        level.projected.projections[row * book.dims + d] = whole;
    }
}

// Multiplies by the Hadamard matrix in place, without its factor, by one warp. Mixes dims that are a multiple of 16
// apart.
__device__ __forceinline__ void hadamard(float* y, int dims, int mixed) {
    for (int apart = 16; apart < mixed; apart *= 2) {
        for (int i = lane_index(); i < dims / 2; i += kWarp) {
            float* p = y + i / apart * 2 * apart + i % apart;
            const float a = p[0], b = p[apart];
            p[0] = a + b;
            p[apart] = a - b;
        }
        __syncwarp();
    }
}

// The relative error of a sum of n squares: in any order, each square passes through fewer than n + 64 roundings.
__device__ __forceinline__ float roundings(int n) { return static_cast<float>(n + 64) * 0x1p-24f; }

// What quantising needs beside y, which itself is off by up to `relative` of the vector's norm.
struct Turned {
    float factor, squared, relative, residual, residual_error;
};

// Rounds y * factor to one vector of a record, by one warp.
__device__ __forceinline__ void quantise(const float* y, const DeviceCodes& codes, const Turned& turned,
                                         int64_t position) {
    const int dims = codes.book.dims, lane = lane_index();
    const auto vector = static_cast<int>(position % codes.group);
    uint8_t* record = codes.query + position / codes.group * codes.record;
    float largest = 0;
    for (int d = lane; d < dims; d += kWarp) largest = fmaxf(largest, fabsf(y[d]));
    largest = largest_of(largest);
    const float norm = __fsqrt_rn(turned.squared);
    const bool encoded =
        norm >= kSmallestNorm && norm <= kLargestNorm;  // else the error alone bounds where the vector lies
    const bool coded = encoded && largest * turned.factor > norm * kSmallestPart;
    const float scale = coded ? largest / 127 : 0, inverse = coded ? 127 / largest : 0;
    float lost = 0;
    int squares = 0;  // exact: below 2^31
    for (int word = lane; word < dims / 4; word += kWarp) {
        unsigned bytes = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float value = encoded ? y[4 * word + i] : 0.0f, code = rintf(value * inverse);
            const float rest = value - code * scale;
            lost = fmaf(rest, rest, lost);
            bytes |= (static_cast<unsigned>(static_cast<int>(code)) & 0xffu) << (8 * i);
        }
        squares = __dp4a(static_cast<int>(bytes), static_cast<int>(bytes), squares);
        reinterpret_cast<unsigned*>(record)[word * codes.group + vector] = bytes;
    }
    lost = sum_of(lost);
    squares = sum_of(squares);
    const float scaled = scale * turned.factor;
    const float off = __fsqrt_rn(lost) * turned.factor + norm * turned.relative;
    float terms[kTerms] = {
        scaled, scaled * scaled * static_cast<float>(squares) * (1 - 0x1p-19f - roundings(dims)),
        __fsqrt_rn(off * off + turned.residual_error * turned.residual_error) * (1 + roundings(dims)) + norm * 0x1p-17f,
        turned.residual};
    if (!encoded) {
        terms[0] = terms[1] = terms[3] = 0;
        terms[2] = norm < kSmallestNorm ? 2 * kSmallestNorm : HUGE_VALF;
    }
    if (lane != 0) return;
    auto* out = reinterpret_cast<float*>(record + static_cast<int64_t>(dims) * codes.group);
#pragma unroll
    for (int t = 0; t < kTerms; ++t) out[t * codes.group + vector] = terms[t];
}

__device__ __forceinline__ float sum_of_squares(const float* y, int n) {
    float sum = 0;
    for (int d = lane_index(); d < n; d += kWarp) sum = fmaf(y[d], y[d], sum);
    return sum_of(sum);
}

__device__ __forceinline__ void encode_projected(const DeviceLevel& level, const DeviceCodes& codes, float whole,
                                                 int64_t position, float* y) {
    const DeviceCodebook& book = codes.book;
    for (int d = lane_index(); d < book.dims; d += kWarp) y[d] = codes.projections[position * book.dims + d];
    __syncwarp();
    const float part = sum_of_squares(y, book.dims);
    const float residual = __fsqrt_rn(whole > part ? whole - part : 0.0f);
    // The residual's square is off by twice the projection's error and by both sums' roundings.
    const float square_error = (4 * book.projection_error + 2 * roundings(level.channels)) * whole;
    const float worst = __fsqrt_rn(square_error);
    const float residual_error = residual > worst ? square_error / residual : worst;
    quantise(y, codes, {1, whole, book.projection_error, residual, residual_error}, position);
}

__device__ __forceinline__ void encode_rotated(const DeviceLevel& level, const DeviceCodes& codes, float whole,
                                               int64_t position, float* y) {
    const DeviceCodebook& book = codes.book;
    const float* row = level.query + position * level.channels;
    for (int d = lane_index(); d < book.dims; d += kWarp)
        y[d] = d < level.channels ? (row[d] - book.mean[d]) * book.signs[d] : 0.0f;
    __syncwarp();
    const int mixed = book.dims & -book.dims;  // the largest power of two that divides it
    hadamard(y, book.dims, mixed);
    quantise(y, codes, {1 / __fsqrt_rn(static_cast<float>(mixed / 16)), whole, 0, 0, 0}, position);
}

// blockIdx.y: twice the level, plus one for its rotated codes.
__global__ void __launch_bounds__(kEncodeWarps* kWarp)
    encode_kernel(const __grid_constant__ DeviceTask task, int shared_dims) {
    const DeviceLevel& level = task.level[blockIdx.y / 2];
    const DeviceCodes& codes = blockIdx.y % 2 ? level.rotated : level.projected;
    const int64_t position = int64_t{blockIdx.x} * (blockDim.x / kWarp) + warp_index();
    if (codes.book.dims == 0 || position >= level.positions) return;
    auto* y = reinterpret_cast<float*>(shared_memory()) + int64_t{warp_index()} * shared_dims;
    const float* row = level.query + position * level.channels;
    float whole = 0;
    for (int c = lane_index(); c < level.channels; c += kWarp) {
        const float x = row[c] - codes.book.mean[c];
        whole = fmaf(x, x, whole);
    }
    whole = sum_of(whole);
    if (codes.book.projection) {
        encode_projected(level, codes, whole, position, y);
    } else {
        encode_rotated(level, codes, whole, position, y);
    }
}

// The shared memory that a vector with `dims` bytes of code takes.
inline int64_t encode_bytes(int64_t dims) { return dims * static_cast<int64_t>(sizeof(float)); }

inline cudaError_t launch_gather(const DeviceTask& task, cudaStream_t stream) {
    int64_t positions = 0, channels = 0;
    for (int l = 0; l < task.level_count; ++l) {
        positions = task.level[l].positions > positions ? task.level[l].positions : positions;
        channels = task.level[l].channels > channels ? task.level[l].channels : channels;
    }
    const dim3 grid(blocks_for(positions, kTile), blocks_for(channels, kTile), static_cast<unsigned>(task.level_count));
    return launch(gather_kernel, grid, kGatherThreads, kTile * (kTile + 1) * sizeof(float), stream, task);
}

inline cudaError_t launch_encode(const DeviceTask& task, cudaStream_t stream) {
    int64_t positions = 0, projected_positions = 0, projected_dims = 0, dims = 0;
    for (int l = 0; l < task.level_count; ++l) {
        const DeviceLevel& level = task.level[l];
        positions = level.positions > positions ? level.positions : positions;
        for (const int64_t some : {level.projected.book.dims, level.rotated.book.dims})
            dims = some > dims ? some : dims;
        if (!level.projected.book.projection) continue;
        projected_positions = level.positions > projected_positions ? level.positions : projected_positions;
        projected_dims = level.projected.book.dims > projected_dims ? level.projected.book.dims : projected_dims;
    }
    if (projected_dims > 0) {
        const dim3 grid(blocks_for(projected_positions, kTile), blocks_for(projected_dims, kTile),
                        static_cast<unsigned>(task.level_count));
        if (const cudaError_t error =
                launch(project_kernel, grid, kProjectThreads, 2 * kSlice * kTileStride * sizeof(float), stream, task))
            return error;
    }
    const int64_t fitting = kEncodeBytes / encode_bytes(dims);
    const auto warps = static_cast<unsigned>(fitting < 1 ? 1 : fitting > kEncodeWarps ? kEncodeWarps : fitting);
    const dim3 grid(blocks_for(positions, warps), 2 * static_cast<unsigned>(task.level_count));
    return launch(encode_kernel, grid, warps * kWarp, static_cast<size_t>(warps * encode_bytes(dims)), stream, task,
                  static_cast<int>(dims));
}

}  // namespace spadeline::cuda
