// Bilinear upsampling on the dense path: the filter's rows, and distances.
//
// Upsampled and multiplied by the roots of their weights, a position's levels are one vector, and the squared norm of a
// difference of two such vectors is D. So the filter multiplies rows of all levels' channels, end to end, as if they
// were one level's: six times as many products as with a product for each level, but the same kernel. Those float16
// rows, one for each finest position, are all that is stored upsampled. Distances interpolate features where they lie.
//
// Interpolated values may cancel, so their error depends on their `magnitude`, the taps' mean squared norm.
// csrc/README.md has the proof.
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/features.cuh"
#include "matcher/cuda/filter.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// Computes four channels of an upsampled feature, and adds its taps' mean squares to `magnitude`. `load(i)` returns the
// channels at the level's position i. Equal taps give equal values, whichever kernel computes them.
template <class T, class Load>
__device__ __forceinline__ void upsample(const DeviceLevel& level, int64_t position, const Load& load, T (&value)[4],
                                         T& magnitude) {
    const auto add = [&](const float4& tap, T weight) {
        const T channel[4] = {static_cast<T>(tap.x), static_cast<T>(tap.y), static_cast<T>(tap.z),
                              static_cast<T>(tap.w)};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            value[i] = fma(weight, channel[i], value[i]);
            magnitude = fma(weight * channel[i], channel[i], magnitude);
        }
    };
    if (!level.taps) return add(load(position), 1);
    const Taps& taps = level.taps[position];
#pragma unroll
    for (int t = 0; t < 4; ++t) add(load(taps.position[t]), static_cast<T>(taps.weight[t]));
}

// Computes D of a query position and a gallery position (among all slots') by a whole warp: every lane gets it.
// `magnitude`, unless it is null, gets that of both sides together.
template <class T>
__device__ __forceinline__ T upsampled_distance(const DeviceTask& task, uint32_t query, uint32_t place,
                                                T* magnitude = nullptr) {
    const auto positions = static_cast<uint32_t>(task.level[0].positions);
    const uint32_t slot = place / positions, position = place % positions;
    T total = 0, mean_squares = 0;
    for (int l = task.level_count - 1; l >= 0; --l) {
        const DeviceLevel& level = task.level[l];
        T sum = 0, squares = 0;
#pragma unroll 1
        for (int c = 4 * lane_index(); c < level.channels; c += 4 * kWarp) {
            T a[4] = {}, b[4] = {};
            upsample(level, query, [&](int64_t i) { return query_quad(level, i, c); }, a, squares);
            upsample(
                level, position, [&](int64_t i) { return gallery_quad(task, level, slot * level.positions + i, c); }, b,
                squares);
            for (int i = 0; i < 4; ++i) sum = fma(a[i] - b[i], a[i] - b[i], sum);
        }
        total = fma(static_cast<T>(level.weight), sum, total);
        mean_squares = fma(static_cast<T>(level.weight), squares, mean_squares);
    }
    if (magnitude) *magnitude = sum_of(mean_squares);
    return sum_of(total);
}

// The least that D can be, given its float32 value, whatever cancelled in that; 0 where it may have overflowed.
__device__ __forceinline__ float least_distance(float distance, float magnitude, const FilterTerms& terms) {
    constexpr float most = 0x1p120f, off = 0x1p-20f;
    if (!(distance < most && magnitude < most)) return 0;
    const float root = __fsqrt_rn(distance) * (1 - terms.relative) - off * __fsqrt_rn(magnitude);
    return root > 0 ? root * root - terms.absolute : 0;
}

struct UpsampledRows {
    DeviceTask task;
    bool query;            // the query's rows; else the gallery's
    int64_t first, count;  // among the finest positions of all slots
    float factor[kMaxLevels], lose, give, largest;
};

// A warp makes a row. The row's norm is that of all levels.
__global__ void __launch_bounds__(kFilterThreads) upsample_rows(const __grid_constant__ UpsampledRows rows) {
    const DeviceTask& task = rows.task;
    const DeviceLevel& finest = task.level[0];
    const int64_t warps = int64_t{gridDim.x} * (kFilterThreads / kWarp);
    for (int64_t i = int64_t{blockIdx.x} * (kFilterThreads / kWarp) + warp_index(); i < rows.count; i += warps) {
        const int64_t place = rows.first + i, slot = place / finest.positions, position = place % finest.positions;
        __half* row = (rows.query ? finest.query_filter : finest.gallery_filter) + place * finest.filter_channels;
        float norm = 0, magnitude = 0;
        bool lost = false;
        for (int l = 0; l < task.level_count; ++l) {
            const DeviceLevel& level = task.level[l];
            const auto wide = static_cast<int>(filter_channels(level.channels));
            float sum = 0, squares = 0;
            for (int c = 4 * lane_index(); c < wide; c += 4 * kWarp) {
                const auto load = [&](int64_t at) {
                    if (c >= level.channels) return float4{0, 0, 0, 0};
                    return rows.query ? query_quad(level, at, c)
                                      : gallery_quad(task, level, slot * level.positions + at, c);
                };
                float value[4] = {};
                upsample(level, position, load, value, squares);
                for (float& x : value) {
                    sum = fmaf(x, x, sum);
                    x *= rows.factor[l];
                    lost |= !(fabsf(x) < kLargestHalf);
                }
                auto* pairs = reinterpret_cast<__half2*>(row + c);
                pairs[0] = __floats2half2_rn(value[0], value[1]);
                pairs[1] = __floats2half2_rn(value[2], value[3]);
            }
            norm = fmaf(static_cast<float>(level.weight), sum, norm);
            magnitude = fmaf(static_cast<float>(level.weight), squares, magnitude);
            row += wide;
        }
        norm = sum_of(norm), magnitude = sum_of(magnitude);
        lost = __any_sync(kLanes, lost);
        if (lane_index() != 0) continue;
        norm = !lost && magnitude <= rows.largest ? fmaf(-rows.lose, magnitude, norm) - rows.give : -HUGE_VALF;
        if (!rows.query && finest.raster[position] < 0) norm = HUGE_VALF;
        (rows.query ? finest.query_filter_norms : finest.gallery_filter_norms)[place] = norm;
    }
}

inline cudaError_t launch_upsample(const DeviceTask& task, const DensePlan& plan, bool query, int64_t first,
                                   int64_t count, cudaStream_t stream) {
    const FilterTerms terms = filter_terms(task, plan);
    UpsampledRows rows{task, query, first, count, {}, 1 - terms.keep, terms.give[0], terms.largest};
    for (int l = 0; l < task.level_count; ++l)
        rows.factor[l] = static_cast<float>(plan.scale[0] * std::sqrt(task.level[l].weight));
    return launch(upsample_rows, filter_grid(count * kWarp), kFilterThreads, 0, stream, rows);
}

// The rows and norms of images that were uploaded to slots [first, first + count).
inline cudaError_t launch_upsample_gallery(const DeviceTask& task, const DensePlan& plan, int64_t first, int64_t count,
                                           cudaStream_t stream) {
    const int64_t positions = task.level[0].positions;
    return launch_upsample(task, plan, false, first * positions, count * positions, stream);
}

// The rows and norms of a query, from level.query.
inline cudaError_t launch_upsample_query(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream) {
    return launch_upsample(task, plan, true, 0, task.level[0].positions, stream);
}

}  // namespace spadeline::cuda
