// How the dense path lays itself out on a device: decided once, on the host, from the pyramid and the device's limits.
//
// A block multiplies kQueryRows positions of the query with kGalleryRows of the gallery at a time. The channels of all
// levels arrive in stages of equal size: at a level whose positions are 2 x 2 or 4 x 4 of the finest (or more) a stage
// has as many times fewer rows and more channels. Stages form a ring in shared memory; the query's rows stay there as
// long as a block needs them, if there is room, else they come along with each stage.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "matcher/half.hpp"
#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"
#include "matcher/sizes.hpp"

namespace spadeline::cuda {

inline constexpr int32_t kQueryRows = 128, kGalleryRows = 256;
inline constexpr int32_t kDenseThreads = 256;   // eight warps: 2 x 4 of 64 x 64 sums each
inline constexpr int32_t kCoarsest = 2;         // halvings from which on a level's tile gets no smaller
inline constexpr int32_t kOpen = 64;            // pairs of a query position that wait for their distance
inline constexpr int64_t kDenseTables = 14976;  // bytes of shared memory besides the rows: see dense.cuh
inline constexpr int32_t kMostStages = 4;
inline constexpr int32_t kMostSplits = 16;  // more only add ends, at which distances are computed

struct DeviceLimits {
    int64_t processors;
    int64_t shared_bytes;  // of one block, at most
};

struct DensePlan {
    int32_t blocks = 0;    // of the grid; 0: the device has too little shared memory
    int32_t channels = 0;  // of the finest level, in a stage: 32 or 64
    int32_t stages = 0;    // in the ring
    int32_t steps = 0;     // stages that make up one tile
    bool resident = false;
    int64_t shared_bytes = 0;
    int32_t splits = 0;  // of the gallery, that it is worth to keep lists for
    float scale[kMaxLevels] = {1, 1, 1, 1};

    int64_t workspace_bytes = 0;     // on the device,
    std::byte* workspace = nullptr;  // for the caller to set
};

// A row of the filter: whole products of a tensor core.
constexpr int64_t filter_channels(int64_t channels) { return round_up(channels, 16); }

// Stages that it takes to bring all channels of a level.
constexpr int64_t level_steps(int64_t channels, int shift, int64_t finest_channels) {
    const int64_t stage = finest_channels << (2 * std::min(shift, kCoarsest));
    return ceil_div(filter_channels(channels), stage);
}

// The levels as the filter multiplies them: as they are, or upsampled bilinearly, end to end, as one.
inline std::vector<LevelShape> filter_levels(const std::vector<LevelShape>& levels, bool bilinear) {
    if (!bilinear) return levels;
    LevelShape all{0, levels[0].height, levels[0].width, 0};
    for (const LevelShape& level : levels) all.channels += filter_channels(level.channels);
    return {all};
}

// `levels`: as the filter multiplies them.
inline DensePlan plan_dense(std::span<const LevelShape> levels, const DeviceLimits& limits) {
    struct Choice {
        int32_t channels, fewest_stages;
        bool resident;
    };
    // Best first. Two stages hide a copy only behind the finest level's work, which is most of it.
    constexpr Choice choices[] = {{64, 3, true}, {32, 3, true}, {32, 2, true}, {32, 2, false}};
    DensePlan plan;
    for (const Choice& choice : choices) {
        int64_t steps = 0;
        for (const LevelShape& level : levels) steps += level_steps(level.channels, level.shift, choice.channels);
        const int64_t query = kQueryRows * choice.channels * 2, gallery = kGalleryRows * choice.channels * 2;
        const int64_t kept = kDenseTables + (choice.resident ? steps * query : 0);
        const int64_t stage = gallery + (choice.resident ? 0 : query);
        // No more than one tile ahead: dense.cuh keeps the places of two.
        const int64_t most = std::min<int64_t>(kMostStages, steps + 1);
        const int64_t stages = std::min((limits.shared_bytes - kept) / stage, most);
        if (stages < std::min<int64_t>(choice.fewest_stages, most)) continue;
        plan.blocks = static_cast<int32_t>(limits.processors);
        plan.channels = choice.channels;
        plan.stages = static_cast<int32_t>(stages);
        plan.steps = static_cast<int32_t>(steps);
        plan.resident = choice.resident;
        plan.shared_bytes = kept + stages * stage;
        plan.splits = kMostSplits;
        plan.workspace_bytes = limits.processors * kQueryRows * kOpen * 8;
        break;
    }
    return plan;
}

// How many shares of the gallery each tile of the query is matched in: what keeps all blocks busy to the end, for as
// few shares as possible, since each begins with the query's rows and ends with exact distances.
constexpr int64_t dense_splits(int64_t query_tiles, int64_t gallery_tiles, int64_t blocks, int64_t most) {
    constexpr int64_t ends = 8;  // that cost about as much as so many tiles
    int64_t best = 1, least = INT64_MAX;
    for (int64_t splits = 1; splits <= most && splits <= gallery_tiles; ++splits) {
        const int64_t rounds = ceil_div(query_tiles * splits, blocks);
        const int64_t time = rounds * (ceil_div(gallery_tiles, splits) + ends);
        if (time < least) best = splits, least = time;
    }
    return best;
}

// The mean square of gallery features, or of what their mean leaves. `rows`: (count, channels), of which at most 2^16
// numbers are looked at.
inline double mean_square(const void* rows, Storage storage, int64_t count, int64_t channels, const float* mean) {
    constexpr int64_t enough = 1 << 16;
    const int64_t step = std::max<int64_t>(count * channels / enough, 1) | 1;  // odd: meets all channels
    double sum = 0;
    int64_t seen = 0;
    for (int64_t i = 0; i < count * channels; i += step, ++seen) {
        const double value = storage == Storage::float16 ? half_to_float(static_cast<const uint16_t*>(rows)[i])
                                                         : static_cast<const float*>(rows)[i];
        const double centred = value - (mean ? mean[i % channels] : 0.0f);
        sum += centred * centred;
    }
    return sum / static_cast<double>(std::max<int64_t>(seen, 1));
}

// A level's scale: the power of two that brings such a mean square near 1, in the middle of float16's range.
inline float filter_scale(double mean_square) {
    const double size = std::sqrt(mean_square);
    if (!(size > 0) || !std::isfinite(size)) return 1;
    return static_cast<float>(std::exp2(std::clamp(-std::round(std::log2(size)), -20.0, 20.0)));
}

}  // namespace spadeline::cuda
