// Distances from the features themselves, by one warp: in float32, which may rule a pair out, and in float64, which
// decides.
#pragma once

#include <cstdint>

#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// Turns a squared distance that was summed in float32, in any order, into a lower bound of the level's part: each term
// meets fewer than channels + 16 roundings. A sum that may have underflowed becomes 0. One that overflowed is capped
// below the largest threshold.
__device__ __forceinline__ float lowered(const DeviceLevel& level, float squared) {
    constexpr float smallest = 0x1p-100f, largest = 0x1p127f, most = 0x1p120f;
    if (!(squared >= smallest)) return 0;
    const float sure = 1 - static_cast<float>(level.channels + 16) * 0x1p-24f;
    return fminf(static_cast<float>(level.weight) * (fminf(squared, largest) * fmaxf(sure, 0.0f)), most);
}

// Four channels as they are stored. Loading and widening are apart, and the type is decided outside of every loop: with
// a conversion beside its load, each load would wait for the one before.
template <class Row>
struct Stored;
template <>
struct Stored<float> {
    using Quad = float4;
};
template <>
struct Stored<__half> {
    using Quad = uint2;
};

__device__ __forceinline__ float4 widened(const float4& quad) { return quad; }
__device__ __forceinline__ float4 widened(const uint2& quad) {
    const auto half = [](unsigned word) { return __half2float(__ushort_as_half(static_cast<unsigned short>(word))); };
    return {half(quad.x & 0xffff), half(quad.x >> 16), half(quad.y & 0xffff), half(quad.y >> 16)};
}

// Channels c to c + 3 of a row, zero behind the last.
template <class Row>
__device__ __forceinline__ typename Stored<Row>::Quad quad_of(const Row* row, int c, int channels) {
    if (channels % 4 == 0) return *reinterpret_cast<const typename Stored<Row>::Quad*>(row + c);
    const auto value = [&](int at) { return at < channels ? row[at] : Row{}; };
    if constexpr (sizeof(Row) == sizeof(float)) {
        return {value(c), value(c + 1), value(c + 2), value(c + 3)};
    } else {
        const auto bits = [&](int at) { return unsigned{__half_as_ushort(value(at))}; };
        return {bits(c) | bits(c + 1) << 16, bits(c + 2) | bits(c + 3) << 16};
    }
}

// Calls use(features of the level's gallery), with the type that they are stored in.
template <class Use>
__device__ __forceinline__ auto with_gallery(const DeviceTask& task, const DeviceLevel& level, const Use& use) {
    if (task.storage == Storage::float16) return use(static_cast<const __half*>(level.gallery));
    return use(static_cast<const float*>(level.gallery));
}

__device__ __forceinline__ float4 gallery_quad(const DeviceTask& task, const DeviceLevel& level, int64_t row, int c) {
    return with_gallery(task, level, [&](const auto* features) {
        return widened(quad_of(features + row * level.channels, c, level.channels));
    });
}

__device__ __forceinline__ float4 query_quad(const DeviceLevel& level, int64_t row, int c) {
    return quad_of(level.query + row * level.channels, c, level.channels);
}

// Fused explicitly, since the compiler would otherwise choose in each kernel anew, and equal vectors could give
// different sums.
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
    // Equal vectors give equal sums, in every kernel.
    __device__ double distance() const { return summed<double>(); }

    template <class T>
    __device__ T summed() const {
        return with_gallery(task, level, [&](const auto* features) {
            return level.channels % 4 == 0 ? summed<T, true>(features) : summed<T, false>(features);
        });
    }

    // The loads of four steps are started before the first is used.
    template <class T, bool kWhole, class Row>
    __device__ T summed(const Row* features) const {
        constexpr int kAhead = 4, kStep = 4 * kWarp;
        const int channels = level.channels;
        const float* ours = level.query + query * channels;
        const Row* theirs = features + gallery * channels;
        T sum = 0;
#pragma unroll 1
        for (int first = 4 * lane_index(); first < channels; first += kAhead * kStep) {
            float4 a[kAhead];
            typename Stored<Row>::Quad b[kAhead];
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                const int c = first + i * kStep;
                a[i] = c < channels ? quad_of(ours, c, kWhole ? 4 : channels) : float4{};
                b[i] = c < channels ? quad_of(theirs, c, kWhole ? 4 : channels) : typename Stored<Row>::Quad{};
            }
#pragma unroll
            for (int i = 0; i < kAhead; ++i) sum += squares<T>(a[i], widened(b[i]));
        }
        return sum_of(sum);
    }
};

// Float32 distances of four query positions and four rows of the gallery, one pair for every two lanes. Pairs whose
// lanes aren't `open` are left out.
__device__ __forceinline__ float float_distances(const DeviceTask& task, const DeviceLevel& level, int64_t query,
                                                 int64_t gallery, unsigned open) {
    float sum[16] = {};
    const unsigned any_query = open | open >> 8 | open >> 16 | open >> 24;
    const int channels = level.channels;
    with_gallery(task, level, [&](const auto* features) {
        const float* ours = level.query + query * channels;
        const auto* theirs = features + gallery * channels;
        using Quad = decltype(quad_of(theirs, 0, 0));
#pragma unroll 1
        for (int c = 4 * lane_index(); c < channels; c += 4 * kWarp) {
            Quad row[4];
            float4 a[4];
#pragma unroll
            for (int g = 0; g < 4; ++g)
                row[g] = any_query >> (2 * g) & 1 ? quad_of(theirs + g * channels, c, channels) : Quad{};
#pragma unroll
            for (int q = 0; q < 4; ++q)
                a[q] = open >> (8 * q) & 0xff ? quad_of(ours + q * channels, c, channels) : float4{};
#pragma unroll
            for (int q = 0; q < 4; ++q) {
                if (!(open >> (8 * q) & 0xff)) continue;
#pragma unroll
                for (int g = 0; g < 4; ++g) sum[4 * q + g] += squares<float>(a[q], widened(row[g]));
            }
        }
    });
    return transposed_sum(sum);
}

}  // namespace spadeline::cuda
