// What the dense path multiplies instead of features: float16 rows, with norms that are lowered so far that
//
//     query norm + gallery norm - 2 sum over levels of weight / scale^2 (query row . gallery row)  <=  D(p, r)
//
// holds whatever rounding and tensor cores do to the left side. csrc/README.md has the proof. A row is a vector less
// the level's mean (which exists if there are codes), times `scale`, a power of two, in float16, filled up with zeros.
// A position whose row or norm leaves the range gets the norm minus infinity, with which every pair passes. A padded
// position of the gallery gets plus infinity, with which no pair does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "matcher/cuda/device.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/task.cuh"

namespace spadeline::cuda {

// The filter's constants. Its sums are in units of the finest level's products; a distance times `unit` is as well.
struct FilterTerms {
    float unit;                // scale^2 / (2 weight) of the finest level
    float ratio[kMaxLevels];   // turns a level's products into units of the finest level's
    float keep;                // the part of a norm that is left when the relative slack is taken off,
    float give[kMaxLevels];    // and the absolute slack, which is taken off then
    float largest;             // with no larger norm a sum overflows
    float relative, absolute;  // the error of a distance in float32
};

inline FilterTerms filter_terms(const DeviceTask& task, const DensePlan& plan) {
    const auto squared = [&](int l) { return double{plan.scale[l]} * plan.scale[l]; };
    const auto weight = [&](int l) { return task.bilinear ? 1 : task.level[l].weight; };  // bilinear rows contain it
    const double unit = squared(0) / (2 * weight(0));
    FilterTerms terms{};
    double channels = 0, weights = 0;
    for (int l = 0; l < task.level_count; ++l) {
        channels += task.level[l].channels;
        weights += task.level[l].weight * task.level[l].channels;
    }
    const double steps = 1.25 * channels + 64, rounded = steps * 0x1p-23, accumulated = rounded / (1 - rounded);
    const double norms = (channels / 32 + 64) * 0x1p-24;
    constexpr double half = 0x1p-10 * (1 + 0x1p-8);  // both sides' rounding to float16
    const double keep = 1 - half - (2 + 0x1p-8) * accumulated - 2 * norms;
    terms.keep = static_cast<float>(keep - 0x1p-22);
    for (int l = 0; l < (task.bilinear ? 1 : task.level_count); ++l) {
        terms.ratio[l] = static_cast<float>(weight(l) / weight(0) * (squared(0) / squared(l)));
        const double lost = weight(l) * (task.bilinear ? channels : task.level[l].channels) * 0x1p-26 / squared(l);
        terms.give[l] = static_cast<float>((lost + steps * 0x1p-124 * (1 + 1 / unit)) * (1 + 0x1p-20));
    }
    terms.unit = static_cast<float>(unit);
    terms.largest = static_cast<float>(0x1p110 / std::fmax(1, unit));
    terms.relative = static_cast<float>(2 * norms);
    terms.absolute = static_cast<float>((1 + weights) * 0x1p-120);
    return terms;
}

// The mean that is subtracted from both sides' rows; null for zero.
inline const float* filter_mean(const DeviceLevel& level) {
    if (level.rotated.book.dims) return level.rotated.book.mean;
    return level.projected.book.dims ? level.projected.book.mean : nullptr;
}

struct FilterRows {
    const void* source;  // (count, channels)
    Storage storage;
    int64_t count, positions;
    int32_t channels, filter_channels;
    const float* mean;
    const int64_t* raster;  // (positions) of what may be padded; or null
    float scale, weight, keep, give, largest;
    __half* rows;  // (count, filter_channels)
    float* norms;  // (count), this level's part
};

// Two channels of a row, less the mean.
__device__ __forceinline__ float2 centred(const FilterRows& task, int64_t row, int32_t channel) {
    float values[2] = {0, 0};
    for (int i = 0; i < 2 && channel + i < task.channels; ++i) {
        const int64_t at = row * task.channels + channel + i;
        const float value = task.storage == Storage::float16 ? __half2float(static_cast<const __half*>(task.source)[at])
                                                             : static_cast<const float*>(task.source)[at];
        const float mean = task.mean ? task.mean[channel + i] : 0.0f;
        values[i] =
            value - (fabsf(mean) < 0x1p100f ? mean : 0.0f);  // any finite mean is right; NaN or a huge one is left out
    }
    return make_float2(values[0], values[1]);
}

inline constexpr unsigned kFilterThreads = 256;
inline constexpr float kLargestHalf = 65520;  // rounds to infinity in float16

// Blocks for `work` threads, or 2^14 blocks, whose threads then take several turns: that fills every GPU many times.
inline dim3 filter_grid(int64_t work) {
    constexpr int64_t most = 1 << 14;
    return dim3(static_cast<unsigned>(std::clamp<int64_t>(ceil_div(work, kFilterThreads), 1, most)));
}

// A warp makes a row.
__global__ void __launch_bounds__(kFilterThreads) filter_rows(const __grid_constant__ FilterRows task) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int64_t warps = int64_t{gridDim.x} * (kFilterThreads / 32);
    for (int64_t row = (int64_t{blockIdx.x} * kFilterThreads + threadIdx.x) / 32; row < task.count; row += warps) {
        float sum = 0;
        bool lost = false;
        for (int32_t channel = 2 * lane; channel < task.filter_channels; channel += 64) {
            const float2 value = centred(task, row, channel);
            sum += value.x * value.x + value.y * value.y;
            const float x = task.scale * value.x, y = task.scale * value.y;
            lost |= !(fabsf(x) < kLargestHalf && fabsf(y) < kLargestHalf);
            *reinterpret_cast<__half2*>(task.rows + row * task.filter_channels + channel) = __floats2half2_rn(x, y);
        }
        for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lanes);
        lost = __any_sync(0xffffffff, lost);
        if (lane != 0) continue;
        float norm = task.weight * sum;
        norm = !lost && norm <= task.largest ? fmaf(norm, task.keep, -task.give) : -HUGE_VALF;
        if (task.raster && task.raster[row % task.positions] < 0) norm = HUGE_VALF;
        task.norms[row] = norm;
    }
}

struct FilterNorms {
    int32_t level_count, halvings[kMaxLevels];  // twice: of both sides
    const float* coarser[kMaxLevels];
    float* norms;  // (count) of the finest level
    int64_t count;
};

// Adds the coarser levels' norms to the finest level's.
__global__ void __launch_bounds__(kFilterThreads) add_filter_norms(const __grid_constant__ FilterNorms task) {
    const int64_t threads = int64_t{gridDim.x} * kFilterThreads;
    for (int64_t i = int64_t{blockIdx.x} * kFilterThreads + threadIdx.x; i < task.count; i += threads) {
        float norm = task.norms[i];
        if (norm == HUGE_VALF) continue;
        for (int l = 1; l < task.level_count; ++l) norm += task.coarser[l][i >> task.halvings[l]];
        task.norms[i] = norm;
    }
}

// `sources`, `rows` and `norms`: one a level, of `images` images.
template <class Source, class Out, class Norms>
cudaError_t launch_filter(const DeviceTask& task, const DensePlan& plan, Storage storage, int64_t images, bool padded,
                          cudaStream_t stream, const Source& source, const Out& rows, const Norms& norms) {
    const FilterTerms terms = filter_terms(task, plan);
    FilterNorms sums{task.level_count, {}, {}, norms(0), images * task.level[0].positions};
    for (int l = 0; l < task.level_count; ++l) {
        const DeviceLevel& level = task.level[l];
        const FilterRows level_rows{source(l),
                                    storage,
                                    images * level.positions,
                                    level.positions,
                                    level.channels,
                                    level.filter_channels,
                                    filter_mean(level),
                                    l == 0 && padded ? level.raster : nullptr,
                                    plan.scale[l],
                                    static_cast<float>(level.weight),
                                    terms.keep,
                                    terms.give[l],
                                    terms.largest,
                                    rows(l),
                                    norms(l)};
        sums.halvings[l] = 2 * level.shift;
        sums.coarser[l] = norms(l);
        if (const cudaError_t error =
                launch(filter_rows, filter_grid(level_rows.count * 32), kFilterThreads, 0, stream, level_rows))
            return error;
    }
    return launch(add_filter_norms, filter_grid(sums.count), kFilterThreads, 0, stream, sums);
}

// The rows and norms of images that were uploaded to slots [first, first + count).
inline cudaError_t launch_filter_gallery(const DeviceTask& task, const DensePlan& plan, int64_t first, int64_t count,
                                         cudaStream_t stream) {
    const auto at = [&](int l) { return first * task.level[l].positions; };
    const auto source = [&](int l) -> const void* {
        const int64_t offset = at(l) * task.level[l].channels * bytes_of(task.storage);
        return static_cast<const std::byte*>(task.level[l].gallery) + offset;
    };
    const auto rows = [&](int l) { return task.level[l].gallery_filter + at(l) * task.level[l].filter_channels; };
    const auto norms = [&](int l) { return task.level[l].gallery_filter_norms + at(l); };
    return launch_filter(task, plan, task.storage, count, true, stream, source, rows, norms);
}

// The rows and norms of a query, from level.query.
inline cudaError_t launch_filter_query(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream) {
    const auto source = [&](int l) -> const void* { return task.level[l].query; };
    const auto rows = [&](int l) { return task.level[l].query_filter; };
    const auto norms = [&](int l) { return task.level[l].query_filter_norms; };
    return launch_filter(task, plan, Storage::float32, 1, false, stream, source, rows, norms);
}

}  // namespace spadeline::cuda
