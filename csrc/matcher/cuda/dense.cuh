// The dense path: every pair of query and gallery positions, each level's products at that level's own resolution, by
// tensor cores, in float16. No sum is ever written to memory: what leaves the registers is the pairs whose lower bound
// (filter.cuh) doesn't exceed their query position's threshold, and settle.cuh decides about those.
//
// A block takes a tile of the query and a share of the gallery, and goes through the share tile by tile:
//   1. products of the coarser levels, which are 2 x 2, 4 x 4, ... times fewer; their sums go to shared memory;
//   2. these sums and the gallery's norms are where the finest level's sums start;
//   3. sums that reach their row's `least` are appended to that row's list.
// Positions are counted in cell-blocked order, so that a tile's first, fourth, sixteenth, ... row begins a position of
// each coarser level, whatever the size of a cell. With bilinear upsampling all levels' channels lie in the finest
// level's rows (bilinear.cuh), and step 1 has nothing to do. Rows of the gallery are counted through all images asked
// for.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "matcher/cuda/device.cuh"
#include "matcher/cuda/filter.cuh"
#include "matcher/cuda/mma.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/settle.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// `kChannels`: of the finest level, in a stage. `kResident`: the query's rows stay in shared memory. `kBilinear`: the
// finest level's rows hold all levels.
template <int kChannels, bool kResident, bool kBilinear>
class Dense {
    using Settler = cuda::Settler<kBilinear>;

 public:
    __device__ explicit Dense(const DenseTask& dense)
        : dense_(dense),
          task_(dense.task),
          tables_(*reinterpret_cast<DenseTables*>(shared_memory())),
          rows_(shared_address(shared_memory() + kDenseTables)),
          ring_(rows_ + (kResident ? dense.plan.steps * kQueryBytes : 0)),
          gallery_rows_(task_.image_count * task_.level[0].positions),
          warp_(warp_index()),
          lane_(lane_index()) {}

    // The shares of one split are worked on at the same time, and so read the same part of the gallery.
    __device__ void run() {
        if (task_.report && fresh(&task_.report->not_finite) != UINT64_MAX)
            return;  // an error: nothing would be ruled out
        const int64_t cells = dense_.query_cell_count ? *dense_.query_cell_count : task_.cells;
        if (cells == 0) return;
        query_rows_ = cells * task_.level[0].block;
        const int64_t query_tiles = (query_rows_ + kQueryRows - 1) / kQueryRows;
        const int64_t gallery_tiles = (gallery_rows_ + kGalleryRows - 1) / kGalleryRows;
        const int64_t splits = dense_splits(query_tiles, gallery_tiles, gridDim.x, task_.splits);
        for (int64_t share = blockIdx.x; share < query_tiles * splits; share += gridDim.x) {
            const int64_t split = share / query_tiles;
            last_ = gallery_tiles * (split + 1) / splits;
            match(share % query_tiles, gallery_tiles * split / splits,
                  Settler(dense_, tables_, static_cast<int>(split)));
        }
    }

 private:
    static constexpr int kLog = kChannels == 64 ? 3 : 2;  // of the 16-byte units of a row in a stage, finest level
    static constexpr uint32_t kQueryBytes = kQueryRows * kChannels * 2, kGalleryBytes = kGalleryRows * kChannels * 2;
    static constexpr uint32_t kStageBytes = kGalleryBytes + (kResident ? 0 : kQueryBytes);

    // A stage of a tile: from the coarsest level's first channels to the finest one's last.
    struct Cursor {
        int level, channel, step;
        int ahead;  // 0: of this tile, 1: of the next
    };
    // A thread's copies of one side's part of a stage: the same 16-byte unit of every so many rows.
    struct Copies {
        const uint32_t* place;         // of the first row
        const std::byte* unit;         // in the level's first row
        uint32_t row_bytes, halvings;  // twice those of the level
        bool present;                  // else zeros
        SharedAddress to;
        uint32_t turn;  // from one copy to the next, of what the swizzle adds

        __device__ void start(int i) const {
            const uint32_t row = place[i * (kDenseThreads >> kLog)] >> halvings;
            start_copy<16>((to ^ (i * turn & 0x70)) + i * kDenseThreads * 16, unit + uint64_t{row} * row_bytes,
                           present);
        }
    };
    // A thread's copies of a stage, to be started while another one is multiplied.
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
    struct Stage {
        SharedAddress query, gallery;
        Incoming incoming;
    };

    // Where a row's 16-byte unit lies in a stage: no eight rows' same units share a bank. Only the unit's place within
    // 128 bytes, or a row if that is less, depends on the row. Stages begin at multiples of 128.
    __device__ static uint32_t swizzled(uint32_t row, uint32_t unit, int log) {
        return ((row << log) + (unit ^ (log == 2 ? row >> 1 & 3 : row & 7))) * 16;
    }

    __device__ void match(int64_t query_tile, int64_t first, Settler settler) {
        __syncthreads();  // the last share's tables have been read
        enter_query(query_tile);
        __syncthreads();
        tile_ = reachable(first);
        if (tile_ == last_) return;
        slot_ = 0;
        enter_tile(tile_, 0);
        __syncthreads();
        if constexpr (kResident) copy_resident();
        issued_ = first_stage(), issue_into_ = 0, read_from_ = 0, step_ = 0;
        prepare();
        for (int i = 0; i + 1 < dense_.plan.stages; ++i) {
            const Incoming first = incoming();
#pragma unroll
            for (int part = 0; part < Incoming::kParts; ++part) start_part(first, part);
        }
        while (tile_ < last_) {
            next_ = reachable(tile_ + 1);
            more_ = next_ < last_;
            if (more_) enter_tile(next_, slot_ ^ 1);
            const float others = others_threshold();
            if (levels() > 1) match_coarser();
            lower_threshold(others);
            if (kBilinear && task_.level_count > 1 && task_.window >= 0) close_window();
            match_finest(settler);
            tile_ = next_, slot_ ^= 1, step_ = 0, --issued_.ahead;
        }
        wait_for_copies<0>();  // zeros
    }

    // The rows of the query: which positions they are, and what they want.
    __device__ void enter_query(int64_t query_tile) {
        if (threadIdx.x == 0) tables_.lowest_row = INT32_MAX, tables_.highest_row = 0;
        for (int i = threadIdx.x; i < kQueryRows / 4 * (kGalleryRows / 4); i += kDenseThreads)
            (&tables_.start[0][0])[i] = 0;
        __syncthreads();
        if (threadIdx.x >= kQueryRows) return;
        const int64_t row = query_tile * kQueryRows + threadIdx.x, within = std::min(row, query_rows_ - 1);
        const int64_t block = task_.level[0].block, index = within / block;
        const int64_t cell = dense_.query_cells ? dense_.query_cells[index] : index;
        const int64_t position = cell * block + within % block;
        const int i = static_cast<int>(threadIdx.x);
        tables_.query[i] = static_cast<uint32_t>(position);
        tables_.query_norm[i] = task_.level[0].query_filter_norms[position];
        tables_.threshold[i] = row == within && task_.scored[position] ? FLT_MAX : -HUGE_VALF;
        tables_.open[i] = 0;
        if (task_.window < 0) return;
        const int cell_row = static_cast<int>(cell / task_.cell_columns);
        atomicMin(&tables_.lowest_row, cell_row);
        atomicMax(&tables_.highest_row, cell_row);
    }

    // Where the rows of a gallery tile lie, and their norms.
    __device__ void enter_tile(int64_t tile, int slot) {
        const auto positions = static_cast<uint32_t>(task_.level[0].positions);
        const auto row = static_cast<uint32_t>(tile * kGalleryRows + threadIdx.x);
        const uint32_t within = std::min(row, static_cast<uint32_t>(gallery_rows_ - 1));
        const uint32_t place = static_cast<uint32_t>(task_.slots[within / positions]) * positions + within % positions;
        tables_.place[slot][threadIdx.x] = place;
        if (row == within) {
            start_copy<4>(shared_address(&tables_.norm[slot][threadIdx.x]),
                          task_.level[0].gallery_filter_norms + place);
        } else {
            tables_.norm[slot][threadIdx.x] = HUGE_VALF;
        }
    }

    // The first tile from this one on of which any row may lie within the window of any of the query's.
    __device__ int64_t reachable(int64_t tile) const {
        while (tile < last_ && task_.window >= 0 && !reaches(tile)) ++tile;
        return tile;
    }
    __device__ bool reaches(int64_t tile) const {
        const int64_t positions = task_.level[0].positions, block = task_.level[0].block;
        const int64_t first = tile * kGalleryRows, last = std::min(first + kGalleryRows, gallery_rows_) - 1;
        if (first / positions != last / positions) return true;
        const int64_t top = first % positions / block / task_.cell_columns;
        const int64_t bottom = last % positions / block / task_.cell_columns;
        return top <= tables_.highest_row + task_.window && tables_.lowest_row <= bottom + task_.window;
    }

    // What other blocks lowered the threshold of the thread's row to; asked for early, since it takes its time.
    __device__ float others_threshold() const {
        return threadIdx.x < kQueryRows ? fresh(task_.thresholds + tables_.query[threadIdx.x]) : FLT_MAX;
    }
    // Between here and what reads `least` lies the barrier of the finest level's first stage.
    __device__ void lower_threshold(float others) {
        const int i = static_cast<int>(threadIdx.x);
        if (i >= kQueryRows) return;
        const float threshold = fminf(tables_.threshold[i], others);  // negative ones stay so: no other is
        tables_.threshold[i] = threshold;
        tables_.least[i] = least_sum(threshold, tables_.query_norm[i], dense_.terms.unit);
    }

    // Halvings from the finest level, as far as a stage's shape goes.
    __device__ int coarseness(int l) const { return std::min(task_.level[l].shift, int{kCoarsest}); }

    // Of the filter.
    __device__ int levels() const { return kBilinear ? 1 : task_.level_count; }

    __device__ Cursor first_stage() const { return {levels() - 1, 0, 0, 0}; }

    __device__ void advance(Cursor& cursor) const {
        ++cursor.step;
        cursor.channel += kChannels << (2 * coarseness(cursor.level));
        if (cursor.channel >= task_.level[cursor.level].filter_channels) cursor.channel = 0, --cursor.level;
        if (cursor.level < 0) cursor = {levels() - 1, 0, 0, cursor.ahead + 1};
    }

    // `places`: of the finest rows.
    __device__ Copies copies(const Cursor& cursor, const __half* rows, const uint32_t* places, SharedAddress to) const {
        const DeviceLevel& level = task_.level[cursor.level];
        const int twice = 2 * coarseness(cursor.level), log = kLog + twice;
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

    __device__ void copy_resident() {
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

    // The copies that bring the next stage into the ring, which is at most a tile ahead: see plan.hpp. They bring zeros
    // if there is no next one, since a branch would keep them from being started amid products.
    __device__ Incoming incoming() const {
        Incoming incoming = prepared_;
        const bool any = issued_.ahead == 0 || more_;
        incoming.gallery.place += (slot_ ^ (any ? issued_.ahead : 0)) * kGalleryRows;
        incoming.gallery.present &= any;
        incoming.query.present &= any;
        return incoming;
    }

    // Starts part of them; with the last part they are a group, and the next stage's are prepared.
    __device__ void start_part(const Incoming& incoming, int part) {
        incoming.start(part);
        if (part + 1 < Incoming::kParts) return;
        close_copies();
        advance(issued_);
        if (++issue_into_ == dense_.plan.stages) issue_into_ = 0;
        prepare();
    }

    // Waits for a stage. Whoever multiplies it starts all parts of what comes into the place of the one before.
    __device__ Stage next_stage() {
        if (dense_.plan.stages == 2) {
            wait_for_copies<0>();
        } else if (dense_.plan.stages == 3) {
            wait_for_copies<1>();
        } else {
            wait_for_copies<2>();
        }
        __syncthreads();
        const SharedAddress gallery = ring_ + read_from_ * kStageBytes;
        if (++read_from_ == dense_.plan.stages) read_from_ = 0;
        const int step = step_++;
        return {kResident ? rows_ + step * kQueryBytes : gallery + kGalleryBytes, gallery, incoming()};
    }

    // Step 1. A level of 2 x 2 positions has 32 x 64 sums, eight columns a warp; coarser ones have 8 x 16, or repeat
    // their rows until they have: eight columns and a quarter of the channels a warp.
    __device__ void match_coarser() {
        float halved[2][1][4] = {}, quartered[1][1][4] = {};
        for (int l = levels() - 1; l > 0; --l) {
            if (coarseness(l) == 1) {
                add_level<1>(halved, l, 8 * warp_, 0);
            } else {
                add_level<2>(quartered, l, 8 * (warp_ % 2), warp_ / 2);
            }
        }
        store_start(halved, quartered[0][0]);
    }

    // Adds products of a coarser level; of each stage those of 16 channels `first`, and of every fourth from there on
    // if four warps share them. Four sums a lane are under way at a time, since each must wait for its last.
    template <int kHalvings, int R>
    __device__ void add_level(float (&total)[R][1][4], int l, int column, int first) {
        constexpr int kApart = 4 / R;
        float sums[kApart][R][1][4] = {};
        for (int channel = 0; channel < task_.level[l].filter_channels; channel += kChannels << (2 * kHalvings))
            multiply_coarse<kHalvings>(sums, next_stage(), column, first);
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < 4; ++i) {
                float sum = sums[0][r][0][i];
                for (int apart = 1; apart < kApart; ++apart) sum += sums[apart][r][0][i];
                total[r][0][i] += dense_.terms.ratio[l] * sum;
            }
    }

    template <int kHalvings, int kApart, int R>
    __device__ void multiply_coarse(float (&sums)[kApart][R][1][4], const Stage& stage, int column, int first) {
        constexpr int log = kLog + 2 * kHalvings, warps = kHalvings == 1 ? 1 : 4;
        constexpr int each = kHalvings == 1 ? 16 : 8;                // rows that a matrix really has
        constexpr int products = kChannels / 16 << (2 * kHalvings);  // of a row, beyond its channels with zeros
        const SharedAddress query = stage.query + swizzled(lane_ % each, 2 * first + lane_ / 16, log);
        const SharedAddress gallery = stage.gallery + swizzled(column + lane_ % 8, 2 * first + lane_ / 8 % 2, log);
#pragma unroll
        for (int k = 0; k < products / warps; ++k) {
            const uint32_t turned = 32 * k * warps % 128, further = 32 * k * warps / 128 * 128;  // see `swizzled`
            Rows rows[R];
            Columns columns[1];
#pragma unroll
            for (int r = 0; r < R; ++r) load(rows[r], (query ^ turned) + further + (r * each << log) * 16);
            load(columns[0], (gallery ^ turned) + further);
            if (k % 4 == 0) start_part(stage.incoming, k / 4);
            multiply(sums[k % kApart], rows, columns);
        }
    }

    __device__ void store_start(const float (&halved)[2][1][4], const float (&quartered)[4]) {
        auto* partial = reinterpret_cast<float (*)[8][16]>(&tables_.start[0][0]);  // of each quarter of the channels
        const int row = lane_ / 4, pair = 2 * (lane_ % 4);
        for (int i = 0; i < 2; ++i) partial[warp_ / 2][row][8 * (warp_ % 2) + pair + i] = quartered[i];
        __syncthreads();
        float start[2][4];
        for (int r = 0; r < 2; ++r)
            for (int i = 0; i < 4; ++i) {
                const int y = 16 * r + row + 8 * (i / 2), x = 8 * warp_ + pair + i % 2;
                start[r][i] = halved[r][0][i];
                for (int part = 0; part < 4; ++part) start[r][i] += partial[part][y / 4][x / 4];
                if (task_.window >= 0 && !within_window(4 * y, tile_ * kGalleryRows + 4 * x)) start[r][i] = -HUGE_VALF;
            }
        __syncthreads();
        for (int r = 0; r < 2; ++r)
            for (int i = 0; i < 4; ++i)
                tables_.start[16 * r + row + 8 * (i / 2)][8 * warp_ + pair + i % 2] = start[r][i];
    }

    // Where all levels lie in the finest one's rows, sums start from nothing, or from what never passes.
    __device__ void close_window() {
        for (int i = threadIdx.x; i < kQueryRows / 4 * (kGalleryRows / 4); i += kDenseThreads) {
            const int y = i / (kGalleryRows / 4), x = i % (kGalleryRows / 4);
            tables_.start[y][x] = within_window(4 * y, tile_ * kGalleryRows + 4 * x) ? 0 : -HUGE_VALF;
        }
    }

    __device__ bool within_window(int query_row, int64_t gallery_row) const {
        const int64_t block = task_.level[0].block, columns = task_.cell_columns;
        const int64_t a = tables_.query[query_row] / block, b = gallery_row % task_.level[0].positions / block;
        const int64_t dy = a / columns - b / columns, dx = a % columns - b % columns;
        return std::max(dy, -dy) <= task_.window && std::max(dx, -dx) <= task_.window;
    }

    // Steps 2 and 3: a warp has 64 rows and 64 columns of the tile's sums.
    __device__ void match_finest(Settler& settler) {
        const int first_row = 64 * (warp_ % 2), first_column = 64 * (warp_ / 2);
        float sums[4][8][4];
        Stage stage = next_stage();
        start(sums, first_row, first_column);
        for (int channel = kChannels;; channel += kChannels) {
            multiply_finest(sums, stage, first_row, first_column);
            if (channel >= task_.level[0].filter_channels) break;
            stage = next_stage();
        }
        uint32_t done[4] = {0, 0, 0, 0};
        for (bool full = true; full;) {
            full = __syncthreads_or(append(sums, done, first_row, first_column));
            const bool last = !full && !more_;
            if (!full && !last) break;
            settle(settler, last);
            __syncthreads();
        }
    }

    __device__ void start(float (&sums)[4][8][4], int first_row, int first_column) const {
        const int row = first_row + lane_ / 4, column = first_column + 2 * (lane_ % 4);
#pragma unroll
        for (int c = 0; c < 8; ++c) {
            const float* norm = &tables_.norm[slot_][column + 8 * c];
            const float taken[2] = {-dense_.terms.unit * norm[0], -dense_.terms.unit * norm[1]};
#pragma unroll
            for (int r = 0; r < 8; ++r) {
                const float above = tables_.start[(row + 8 * r) / 4][(column + 8 * c) / 4];
                sums[r / 2][c][r % 2 * 2] = above + taken[0];
                sums[r / 2][c][r % 2 * 2 + 1] = above + taken[1];
            }
        }
    }

    __device__ void multiply_finest(float (&sums)[4][8][4], const Stage& stage, int first_row, int first_column) {
        constexpr uint32_t matrix = 16 * kChannels * 2;  // bytes
        const uint32_t row = first_row + lane_ % 16, column = first_column + lane_ % 8 + lane_ / 16 * 8;
        const SharedAddress query = stage.query + swizzled(row, lane_ / 16, kLog);
        const SharedAddress gallery = stage.gallery + swizzled(column, lane_ / 8 % 2, kLog);
#pragma unroll
        for (int k = 0; k < kChannels / 16; ++k) {
            const SharedAddress units = 32 * k;  // two; a row lies on a multiple of its size, which doesn't exceed 128
            Rows rows[4];
            Columns columns[8];
#pragma unroll
            for (int r = 0; r < 4; ++r) load(rows[r], (query ^ units) + r * matrix);
#pragma unroll
            for (int c = 0; c < 8; c += 2) load(columns[c], columns[c + 1], (gallery ^ units) + c / 2 * matrix);
            start_part(stage.incoming, k);
            multiply(sums, rows, columns);
        }
    }

    // Appends the pairs that pass to their rows' lists, but for those that are `done`. True: one found no room.
    __device__ bool append(const float (&sums)[4][8][4], uint32_t (&done)[4], int first_row, int first_column) {
        bool full = false;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int row = first_row + 16 * r + lane_ / 4;
            const float least[2] = {tables_.least[row], tables_.least[row + 8]};
            bool passes = false;
#pragma unroll
            for (int c = 0; c < 8; ++c)
#pragma unroll
                for (int i = 0; i < 4; ++i) passes |= !(sums[r][c][i] < least[i / 2]);
            if (!passes) continue;
            float values[32];
            uint32_t left = 0;
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                values[i] = sums[r][i / 4][i % 4];
                left |= uint32_t{!(values[i] < least[i / 2 % 2])} << i;
            }
#pragma unroll 1
            for (left &= ~done[r]; left; left &= left - 1) {
                const int i = __ffs(static_cast<int>(left)) - 1;
                if (add(row + 8 * (i / 2 % 2), first_column + 8 * (i / 4) + 2 * (lane_ % 4) + i % 2, values[i])) {
                    done[r] |= 1u << i;
                } else {
                    full = true;
                }
            }
        }
        return full;
    }

    // False: there is no room.
    __device__ bool add(int row, int column, float sum) {
        const int64_t gallery_row = tile_ * kGalleryRows + column;
        if (tables_.threshold[row] < 0 || gallery_row >= gallery_rows_) return true;
        if (task_.level[0].raster[gallery_row % task_.level[0].positions] < 0) return true;
        if (task_.window >= 0 && !within_window(row, gallery_row)) return true;
        const int at = atomicAdd(&tables_.open[row], 1);
        if (at >= kOpen) return false;
        const float bound = tables_.query_norm[row] - sum / dense_.terms.unit;  // NaN or beyond: nothing is known
        Settler::lists(dense_.plan)[row * kOpen + at] = {static_cast<uint32_t>(gallery_row),
                                                         fabsf(bound) <= FLT_MAX ? bound : -HUGE_VALF};
        return true;
    }

    // Lists that are full, or all that aren't empty: a warp each.
    __device__ void settle(Settler& settler, bool last) const {
        for (int row = warp_; row < kQueryRows; row += kDenseThreads / 32)
            if (tables_.open[row] > (last ? 0 : kOpen / 2)) settler.settle(row, last);
    }

    const DenseTask& dense_;
    const DeviceTask& task_;
    DenseTables& tables_;
    const SharedAddress rows_, ring_;
    const int64_t gallery_rows_;
    const int warp_, lane_;
    int64_t query_rows_ = 0, last_ = 0, tile_ = 0, next_ = 0;
    Cursor issued_{};  // what comes next into the ring
    Incoming prepared_{};
    bool more_ = false;  // there is a next tile
    int slot_ = 0, issue_into_ = 0, read_from_ = 0, step_ = 0;
};

template <int kChannels, bool kResident, bool kBilinear>
__global__ void __launch_bounds__(kDenseThreads, 1) match_dense(const __grid_constant__ DenseTask dense) {
    Dense<kChannels, kResident, kBilinear>(dense).run();
}

template <bool kBilinear>
auto dense_kernel(const DensePlan& plan) {
    return !plan.resident        ? match_dense<32, false, kBilinear>
           : plan.channels == 32 ? match_dense<32, true, kBilinear>
                                 : match_dense<64, true, kBilinear>;
}

// Matches the query cells of a list; it and its length lie on the device (null: all cells). The filter's rows must be
// there, thresholds be FLT_MAX or what is known, and the cells' lists of nearest neighbours empty, all splits: what
// another path found is found again, but for what its thresholds rule out.
inline cudaError_t launch_dense(const DeviceTask& task, const DensePlan& plan, const int32_t* query_cells,
                                const int32_t* query_cell_count, cudaStream_t stream) {
    if (plan.blocks == 0) return cudaErrorInvalidConfiguration;
    if (task.image_count * task.level[0].positions > INT32_MAX) return cudaErrorInvalidValue;  // see Candidate
    const DenseTask dense{task, plan, filter_terms(task, plan), query_cells, query_cell_count};
    const dim3 grid(static_cast<unsigned>(plan.blocks));
    const auto kernel = task.bilinear ? dense_kernel<true>(plan) : dense_kernel<false>(plan);
    return launch(kernel, grid, kDenseThreads, static_cast<size_t>(plan.shared_bytes), stream, dense);
}

}  // namespace spadeline::cuda
