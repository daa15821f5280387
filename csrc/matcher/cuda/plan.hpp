// The dense path's layout on a device. It is chosen once, on the host, from the pyramid and the device's limits.
//
// A block multiplies kQueryRows positions of the query with kGalleryRows of the gallery at a time. The channels of all
// levels arrive in stages of equal size. At a level whose positions are 2 x 2 or 4 x 4 (or more) of the finest, a stage
// has as many times fewer rows and more channels. Stages form a ring in shared memory. If there is room, the query's
// rows stay in shared memory as long as a block needs them; else they are part of each stage.
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

// Eight warps, 2 x 4 of them, with 64 x 64 sums each: 128 sums a thread. A thread may have 255 registers, and 256 such
// threads take the 2^16 registers of a multiprocessor.
inline constexpr int32_t kQueryRows = 128, kGalleryRows = 256;
inline constexpr int32_t kDenseThreads = 256;
// Halvings from which on a level's tile gets no smaller: 128 x 256 rows are then 8 x 16, and a warp multiplies 8 x 8.
inline constexpr int32_t kCoarsest = 2;
inline constexpr int32_t kOpen = 64;  // pairs of a query row that wait: two for each lane of the settling warp
inline constexpr int64_t kDenseTables = 14976;  // bytes of DenseTables (settle.cuh), in whole lines of 128
inline constexpr int32_t kMostStages = 4;       // one is multiplied while up to three are being copied
inline constexpr int32_t kMostSplits = 16;  // further splits add ends, at which distances are computed, and no speed

struct DeviceLimits {
    int64_t processors;
    int64_t shared_bytes;  // of one block, at most
};

struct DensePlan {
    int32_t blocks = 0;    // of the grid; 0: the device has too little shared memory
    int32_t channels = 0;  // the finest level's channels in a stage: 32 or 64
    int32_t stages = 0;    // places of the ring
    int32_t steps = 0;     // stages of one tile
    bool resident = false;
    int64_t shared_bytes = 0;
    int32_t splits = 0;  // parts of the gallery that have lists of their own, at most
    float scale[kMaxLevels] = {1, 1, 1, 1};

    int64_t workspace_bytes = 0;     // on the device,
    std::byte* workspace = nullptr;  // for the caller to set
};

// Channels of a filter's row, in whole products of a tensor core, which has 16 channels.
constexpr int64_t filter_channels(int64_t channels) { return round_up(channels, 16); }

// The stages that bring all channels of a level.
constexpr int64_t level_steps(int64_t channels, int shift, int64_t finest_channels) {
    const int64_t stage = finest_channels << (2 * std::min(shift, kCoarsest));
    return ceil_div(filter_channels(channels), stage);
}

// The levels as the filter multiplies them: with nearest upsampling as they are, with bilinear end to end, as one
// level.
inline std::vector<LevelShape> filter_levels(const std::vector<LevelShape>& levels, bool bilinear) {
    if (!bilinear) return levels;
    LevelShape all{0, levels[0].height, levels[0].width, 0};
    for (const LevelShape& level : levels) all.channels += filter_channels(level.channels);
    return {all};
}

// `levels` are those that the filter multiplies.
inline DensePlan plan_dense(std::span<const LevelShape> levels, const DeviceLimits& limits) {
    struct Choice {
        int32_t channels, fewest_stages;
        bool resident;
    };
    // Best first. With two stages only the finest level's work hides a copy; it is most of the work.
    constexpr Choice choices[] = {{64, 3, true}, {32, 3, true}, {32, 2, true}, {32, 2, false}};
    DensePlan plan;
    for (const Choice& choice : choices) {
        int64_t steps = 0;
        for (const LevelShape& level : levels) steps += level_steps(level.channels, level.shift, choice.channels);
        const int64_t query = kQueryRows * choice.channels * 2, gallery = kGalleryRows * choice.channels * 2;
        const int64_t kept = kDenseTables + (choice.resident ? steps * query : 0);
        const int64_t stage = gallery + (choice.resident ? 0 : query);
        // Copies run no more than one tile ahead, since a block keeps the places of two tiles.
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

// In how many shares of the gallery each tile of the query is matched: as few as keep all blocks busy to the end, since
// each share begins with loading the query's rows and ends with exact distances.
constexpr int64_t dense_splits(int64_t query_tiles, int64_t gallery_tiles, int64_t blocks, int64_t most) {
    constexpr int64_t ends = 8;  // an estimate: a share's begin and end cost as much as so many tiles
    int64_t best = 1, least = INT64_MAX;
    for (int64_t splits = 1; splits <= most && splits <= gallery_tiles; ++splits) {
        const int64_t rounds = ceil_div(query_tiles * splits, blocks);
        const int64_t time = rounds * (ceil_div(gallery_tiles, splits) + ends);
        if (time < least) best = splits, least = time;
    }
    return best;
}

// The mean square of gallery features, less their mean if there is one. `rows` is (count, channels). At most 2^16
// numbers are read, which is plenty for a power of two.
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

// A level's scale: the power of two that brings this mean square near 1, the middle of float16's range.
inline float filter_scale(double mean_square) {
    const double size = std::sqrt(mean_square);
    if (!(size > 0) || !std::isfinite(size)) return 1;
    return static_cast<float>(std::exp2(std::clamp(-std::round(std::log2(size)), -20.0, 20.0)));
}

}  // namespace spadeline::cuda
