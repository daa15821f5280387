// How rows come to the dense path's products: the channels of all levels arrive in stages of equal size, in a ring in
// shared memory, while earlier stages are multiplied. plan.hpp says how many stages there are.
//
// A stage holds `kChannels` channels of each of the tile's finest rows, or as many times more channels of a coarser
// level's rows as there are fewer of them. The query's rows are part of each stage, or stay in shared memory as long as
// the block needs them (`kResident`).
#pragma once

#include <algorithm>
#include <cstdint>

#include "matcher/cuda/dense_block.cuh"
#include "matcher/cuda/mma.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/task.cuh"

namespace spadeline::cuda {

// Where a row's 16-byte unit lies in a stage whose rows have 2^log units: no eight rows' same units share a bank. Only
// the unit's place within 128 bytes, or within a row if that is less, depends on the row. Stages begin at multiples of
// 128.
__device__ inline uint32_t swizzled(uint32_t row, uint32_t unit, int log) {
    return ((row << log) + (unit ^ (log == 2 ? row >> 1 & 3 : row & 7))) * 16;
}

// Halvings of a level from the finest one, as far as a stage's shape follows them.
__device__ inline int coarseness(const DeviceTask& task, int l) {
    return std::min(task.level[l].shift, int{kCoarsest});
}

// The level's `gallery_filter` of all levels that the filter multiplies: with bilinear upsampling only the finest has
// one.
template <int kChannels_, bool kResident_, bool kBilinear_>
class StageRing {
 public:
    static constexpr int kChannels = kChannels_;
    static constexpr bool kResident = kResident_, kBilinear = kBilinear_;
    static constexpr int kLog = kChannels == 64 ? 3 : 2;  // a row of the finest level has 2^kLog units in a stage

 private:
    static constexpr uint32_t kQueryBytes = kQueryRows * kChannels * 2, kGalleryBytes = kGalleryRows * kChannels * 2;
    static constexpr uint32_t kStageBytes = kGalleryBytes + (kResident ? 0 : kQueryBytes);

    // A stage among those of a tile, which begin with the coarsest level's first channels and end with the finest
    // level's last ones.
    struct Cursor {
        int level, channel, step;
        int ahead;  // 0: of the tile that is multiplied, 1: of the next one
    };
    // A thread's copies of one side's part of a stage: the same 16-byte unit of every so many rows.
    struct Copies {
        const uint32_t* place;         // of the first row
        const std::byte* unit;         // in the level's first row
        uint32_t row_bytes, halvings;  // twice those of the level
        bool present;                  // else zeros are copied
        SharedAddress to;
        uint32_t turn;  // what the swizzle adds from one copy to the next

        __device__ void start(int i) const {
            const uint32_t row = place[i * (kDenseThreads >> kLog)] >> halvings;
            start_copy<16>((to ^ (i * turn & 0x70)) + i * kDenseThreads * 16, unit + uint64_t{row} * row_bytes,
                           present);
        }
    };

 public:
    // A thread's copies of a stage, which it starts in parts, between the products of another stage.
    struct Incoming {
        static constexpr int kParts = kChannels / 16;
        Copies gallery, query;

        __device__ void start(int part) const {
            constexpr int each = kGalleryRows * 2 / kDenseThreads;
#pragma unroll
            for (int i = 0; i < each; ++i) gallery.start(each * part + i);
            if constexpr (!kResident) query.start(part);
        }
    };
    // A stage that has arrived. Whoever multiplies it starts all parts of what comes into the place of the one before.
    struct Stage {
        SharedAddress query, gallery;
        Incoming incoming;
    };

    __device__ explicit StageRing(const DenseBlock& block)
        : stages_(block.dense.plan.stages),
          task_(block.task),
          tables_(block.tables),
          rows_(shared_address(shared_memory() + kDenseTables)),
          ring_(rows_ + (kResident ? block.dense.plan.steps * kQueryBytes : 0)) {}

    // Of the filter: with bilinear upsampling the finest level's rows hold all levels.
    __device__ static int levels(const DeviceTask& task) { return kBilinear ? 1 : task.level_count; }

    // Begins with a share's first tile, whose places must be known: starts the copies of as many stages as the ring
    // holds, but one.
    __device__ void begin(const Tile& tile) {
        if constexpr (kResident) copy_resident();
        issued_ = first_stage(), issue_into_ = 0, read_from_ = 0, step_ = 0;
        prepare();
        for (int i = 0; i + 1 < stages_; ++i) {
            const Incoming first = incoming(tile);
#pragma unroll
            for (int part = 0; part < Incoming::kParts; ++part) start_part(first, part);
        }
    }

    // Waits for a stage of this tile.
    __device__ Stage next_stage(const Tile& tile) {
        if (stages_ == 2) {
            wait_for_copies<0>();
        } else if (stages_ == 3) {
            wait_for_copies<1>();
        } else {
            wait_for_copies<2>();
        }
        __syncthreads();
        const SharedAddress gallery = ring_ + read_from_ * kStageBytes;
        if (++read_from_ == stages_) read_from_ = 0;
        const int step = step_++;
        return {kResident ? rows_ + step * kQueryBytes : gallery + kGalleryBytes, gallery, incoming(tile)};
    }

    // Starts one part of a stage's copies. With the last part they are a group, and the next stage's are prepared.
    __device__ void start_part(const Incoming& incoming, int part) {
        incoming.start(part);
        if (part + 1 < Incoming::kParts) return;
        close_copies();
        advance(issued_);
        if (++issue_into_ == stages_) issue_into_ = 0;
        prepare();
    }

    // The next tile is multiplied from here on.
    __device__ void enter_next_tile() { step_ = 0, --issued_.ahead; }

 private:
    __device__ Cursor first_stage() const { return {levels(task_) - 1, 0, 0, 0}; }

    __device__ void advance(Cursor& cursor) const {
        ++cursor.step;
        cursor.channel += kChannels << (2 * coarseness(task_, cursor.level));
        if (cursor.channel >= task_.level[cursor.level].filter_channels) cursor.channel = 0, --cursor.level;
        if (cursor.level < 0) cursor = {levels(task_) - 1, 0, 0, cursor.ahead + 1};
    }

    // `places`: of the finest rows.
    __device__ Copies copies(const Cursor& cursor, const __half* rows, const uint32_t* places, SharedAddress to) const {
        const DeviceLevel& level = task_.level[cursor.level];
        const int twice = 2 * coarseness(task_, cursor.level), log = kLog + twice;
        const uint32_t row = threadIdx.x >> log, unit = threadIdx.x & ((1u << log) - 1);
        const int channel = cursor.channel + 8 * static_cast<int>(unit);
        const bool present = channel < level.filter_channels;
        return {places + (row << twice),
                reinterpret_cast<const std::byte*>(rows + (present ? channel : 0)),
                2u * level.filter_channels,
                2u * level.shift,
                present,
                to + swizzled(row, unit, log),
                16u * kDenseThreads >> log};
    }

    __device__ void copy_resident() const {
        for (Cursor cursor = first_stage(); cursor.ahead == 0; advance(cursor)) {
            const Copies query = copies(cursor, task_.level[cursor.level].query_filter, tables_.query,
                                        rows_ + cursor.step * kQueryBytes);
#pragma unroll
            for (int i = 0; i < kQueryRows * kChannels / 8 / kDenseThreads; ++i) query.start(i);
        }
    }

    // The copies of the stage that comes next, as far as they don't depend on its tile.
    __device__ void prepare() {
        const DeviceLevel& level = task_.level[issued_.level];
        const SharedAddress to = ring_ + issue_into_ * kStageBytes;
        prepared_.gallery = copies(issued_, level.gallery_filter, tables_.place[0], to);
        if constexpr (!kResident)
            prepared_.query = copies(issued_, level.query_filter, tables_.query, to + kGalleryBytes);
    }

    // The copies that bring the next stage into the ring, which is at most a tile ahead: see plan.hpp. Where there is
    // no next stage they bring zeros, since a branch would keep them from being started between products.
    __device__ Incoming incoming(const Tile& tile) const {
        Incoming incoming = prepared_;
        const bool any = issued_.ahead == 0 || tile.more;
        incoming.gallery.place += (tile.slot ^ (any ? issued_.ahead : 0)) * kGalleryRows;
        incoming.gallery.present &= any;
        incoming.query.present &= any;
        return incoming;
    }

    const int stages_;
    const DeviceTask& task_;
    const DenseTables& tables_;
    const SharedAddress rows_, ring_;
    Cursor issued_{};  // the stage that comes next into the ring,
    Incoming prepared_{};
    int issue_into_ = 0;  // and its place there
    int read_from_ = 0;   // the place of the stage that is multiplied next,
    int step_ = 0;        // and its number within the tile
};

}  // namespace spadeline::cuda
