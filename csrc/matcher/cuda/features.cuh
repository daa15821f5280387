// Distances from the features themselves, by one warp: in float32, where that is enough to rule a pair out, and in
// float64, which decides.
#pragma once

#include <cstdint>

#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// A squared distance as summed in float32, in any order, to a lower bound of the level's part: each term meets fewer
// than channels + 16 roundings. What underflowed is dropped, what overflowed capped where thresholds still exceed it.
__device__ __forceinline__ float lowered(const DeviceLevel& level, float squared) {
    constexpr float smallest = 0x1p-100f, largest = 0x1p127f, most = 0x1p120f;
    if (!(squared >= smallest)) return 0;
    const float sure = 1 - static_cast<float>(level.channels + 16) * 0x1p-24f;
    return fminf(static_cast<float>(level.weight) * (fminf(squared, largest) * fmaxf(sure, 0.0f)), most);
}

// Channels c to c + 3 of a row, zero behind the last.
__device__ __forceinline__ float4 quad_of(const float* row, int c, int channels) {
    if (channels % 4 == 0) return *reinterpret_cast<const float4*>(row + c);
    return {row[c], c + 1 < channels ? row[c + 1] : 0.0f, c + 2 < channels ? row[c + 2] : 0.0f,
            c + 3 < channels ? row[c + 3] : 0.0f};
}
__device__ __forceinline__ float4 quad_of(const __half* row, int c, int channels) {
    if (channels % 4 == 0) {
        const uint2 bits = *reinterpret_cast<const uint2*>(row + c);
        const auto half = [](unsigned word) {
            return __half2float(__ushort_as_half(static_cast<unsigned short>(word)));
        };
        return {half(bits.x & 0xffff), half(bits.x >> 16), half(bits.y & 0xffff), half(bits.y >> 16)};
    }
    const auto value = [&](int at) { return at < channels ? __half2float(row[at]) : 0.0f; };
    return {value(c), value(c + 1), value(c + 2), value(c + 3)};
}

__device__ __forceinline__ float4 gallery_quad(const DeviceTask& task, const DeviceLevel& level, int64_t row, int c) {
    const int64_t at = row * level.channels;
    if (task.storage == Storage::float16)
        return quad_of(static_cast<const __half*>(level.gallery) + at, c, level.channels);
    return quad_of(static_cast<const float*>(level.gallery) + at, c, level.channels);
}

__device__ __forceinline__ float4 query_quad(const DeviceLevel& level, int64_t row, int c) {
    return quad_of(level.query + row * level.channels, c, level.channels);
}

// Fused as it says, whatever kernel this is part of: left to itself, the compiler would choose anew in each.
template <class T>
__device__ __forceinline__ T squares(const float4& a, const float4& b) {
    const T x = static_cast<T>(a.x) - static_cast<T>(b.x), y = static_cast<T>(a.y) - static_cast<T>(b.y);
    const T z = static_cast<T>(a.z) - static_cast<T>(b.z), w = static_cast<T>(a.w) - static_cast<T>(b.w);
    return fma(x, x, y * y) + fma(z, z, w * w);
}

// One query position and one row of the gallery.
struct Pair {
    const DeviceTask& task;
    const DeviceLevel& level;
    int64_t query, gallery;

    __device__ float float_distance() const { return summed<float>(); }
    // Equal vectors give equal sums, whoever adds them.
    __device__ double distance() const { return summed<double>(); }

    template <class T>
    __device__ T summed() const {
        T sum = 0;
#pragma unroll 1
        for (int c = 4 * lane_index(); c < level.channels; c += 4 * kWarp)
            sum += squares<T>(query_quad(level, query, c), gallery_quad(task, level, gallery, c));
        return sum_of(sum);
    }
};

// Float32 distances of four query positions and four rows of the gallery, one pair for every two lanes; of those whose
// lanes are `open`.
__device__ __forceinline__ float float_distances(const DeviceTask& task, const DeviceLevel& level, int64_t query,
                                                 int64_t gallery, unsigned open) {
    float sum[16] = {};
    const unsigned any_query = open | open >> 8 | open >> 16 | open >> 24;
#pragma unroll 1
    for (int c = 4 * lane_index(); c < level.channels; c += 4 * kWarp) {
        float4 row[4];
#pragma unroll
        for (int g = 0; g < 4; ++g)
            row[g] = any_query >> (2 * g) & 1 ? gallery_quad(task, level, gallery + g, c) : float4{0, 0, 0, 0};
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            if (!(open >> (8 * q) & 0xff)) continue;
            const float4 a = query_quad(level, query + q, c);
#pragma unroll
            for (int g = 0; g < 4; ++g) sum[4 * q + g] += squares<float>(a, row[g]);
        }
    }
    return transposed_sum(sum);
}

}  // namespace spadeline::cuda
