// The dense path: every pair of query and gallery positions, each level's products at that level's own resolution, by
// tensor cores, in float16. No sum is ever written to memory: what leaves the registers is the pairs whose lower bound
// (filter.cuh) doesn't exceed their query position's threshold, and settle.cuh decides about those.
//
// A block takes a tile of the query and a share of the gallery, and goes through the share tile by tile:
//   1. products of the coarser levels, which are 2 x 2, 4 x 4, ... times fewer; their sums go to shared memory;
//   2. these sums and the gallery's norms are where the finest level's sums start;
//   3. sums that reach their row's `least` are appended to that row's list.
// dense_block.cuh has the tiles, dense_ring.cuh brings their rows. With bilinear upsampling all levels' channels lie in
// the finest level's rows (bilinear.cuh), and step 1 has nothing to do.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "matcher/cuda/dense_block.cuh"
#include "matcher/cuda/dense_ring.cuh"
#include "matcher/cuda/device.cuh"
#include "matcher/cuda/filter.cuh"
#include "matcher/cuda/mma.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/settle.cuh"
#include "matcher/cuda/task.cuh"

namespace spadeline::cuda {

// Adds a stage's products of a coarser level; of the stage those of 16 channels `first`, and of every fourth 16 from
// there on if four warps share them.
template <int kHalvings, class Ring, int kApart, int R>
__device__ void multiply_coarse(const DenseBlock& block, Ring& ring, const typename Ring::Stage& stage, int column,
                                int first, float (&sums)[kApart][R][1][4]) {
    constexpr int log = Ring::kLog + 2 * kHalvings, warps = kHalvings == 1 ? 1 : 4;
    constexpr int each = kHalvings == 1 ? 16 : 8;                      // rows that a matrix really has
    constexpr int products = Ring::kChannels / 16 << (2 * kHalvings);  // of a row, beyond its channels with zeros
    const int lane = block.lane;
    const SharedAddress query = stage.query + swizzled(lane % each, 2 * first + lane / 16, log);
    const SharedAddress gallery = stage.gallery + swizzled(column + lane % 8, 2 * first + lane / 8 % 2, log);
#pragma unroll
    for (int k = 0; k < products / warps; ++k) {
        const uint32_t turned = 32 * k * warps % 128, further = 32 * k * warps / 128 * 128;  // see `swizzled`
        Rows rows[R];
        Columns columns[1];
#pragma unroll
        for (int r = 0; r < R; ++r) load(rows[r], (query ^ turned) + further + (r * each << log) * 16);
        load(columns[0], (gallery ^ turned) + further);
        if (k % 4 == 0) ring.start_part(stage.incoming, k / 4);
        multiply(sums[k % kApart], rows, columns);
    }
}

// Adds all products of a coarser level. Four sums a lane are under way at a time, since each must wait for its last.
template <int kHalvings, class Ring, int R>
__device__ void add_level(const DenseBlock& block, Ring& ring, const Tile& tile, int l, int column, int first,
                          float (&total)[R][1][4]) {
    constexpr int kApart = 4 / R;
    float sums[kApart][R][1][4] = {};
    for (int channel = 0; channel < block.task.level[l].filter_channels; channel += Ring::kChannels << (2 * kHalvings))
        multiply_coarse<kHalvings>(block, ring, ring.next_stage(tile), column, first, sums);
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < 4; ++i) {
            float sum = sums[0][r][0][i];
            for (int apart = 1; apart < kApart; ++apart) sum += sums[apart][r][0][i];
            total[r][0][i] += block.dense.terms.ratio[l] * sum;
        }
}

// The coarser levels' sums to `start`, one for each 4 x 4 pairs of the finest level's rows.
__device__ inline void store_start(const DenseBlock& block, const Tile& tile, const float (&halved)[2][1][4],
                                   const float (&quartered)[4]) {
    DenseTables& tables = block.tables;
    auto* partial = reinterpret_cast<float (*)[8][16]>(&tables.start[0][0]);  // of each quarter of the channels
    const int warp = block.warp, row = block.lane / 4, pair = 2 * (block.lane % 4);
    for (int i = 0; i < 2; ++i) partial[warp / 2][row][8 * (warp % 2) + pair + i] = quartered[i];
    __syncthreads();
    float start[2][4];
    for (int r = 0; r < 2; ++r)
        for (int i = 0; i < 4; ++i) {
            const int y = 16 * r + row + 8 * (i / 2), x = 8 * warp + pair + i % 2;
            start[r][i] = halved[r][0][i];
            for (int part = 0; part < 4; ++part) start[r][i] += partial[part][y / 4][x / 4];
            if (block.task.window >= 0 && !within_window(block, 4 * y, tile.index * kGalleryRows + 4 * x))
                start[r][i] = -HUGE_VALF;
        }
    __syncthreads();
    for (int r = 0; r < 2; ++r)
        for (int i = 0; i < 4; ++i) tables.start[16 * r + row + 8 * (i / 2)][8 * warp + pair + i % 2] = start[r][i];
}

// Step 1. A level of 2 x 2 positions has 32 x 64 sums, eight columns a warp. Coarser levels have 8 x 16 sums, or repeat
// their rows until they have: a warp takes eight columns and a quarter of the channels.
template <class Ring>
__device__ void match_coarser(const DenseBlock& block, Ring& ring, const Tile& tile) {
    float halved[2][1][4] = {}, quartered[1][1][4] = {};
    for (int l = Ring::levels(block.task) - 1; l > 0; --l) {
        if (coarseness(block.task, l) == 1) {
            add_level<1>(block, ring, tile, l, 8 * block.warp, 0, halved);
        } else {
            add_level<2>(block, ring, tile, l, 8 * (block.warp % 2), block.warp / 2, quartered);
        }
    }
    store_start(block, tile, halved, quartered[0][0]);
}

// Step 2.
__device__ inline void start_sums(const DenseBlock& block, const Tile& tile, int first_row, int first_column,
                                  float (&sums)[4][8][4]) {
    const int row = first_row + block.lane / 4, column = first_column + 2 * (block.lane % 4);
#pragma unroll
    for (int c = 0; c < 8; ++c) {
        const float* norm = &block.tables.norm[tile.slot][column + 8 * c];
        const float taken[2] = {-block.dense.terms.unit * norm[0], -block.dense.terms.unit * norm[1]};
#pragma unroll
        for (int r = 0; r < 8; ++r) {
            const float above = block.tables.start[(row + 8 * r) / 4][(column + 8 * c) / 4];
            sums[r / 2][c][r % 2 * 2] = above + taken[0];
            sums[r / 2][c][r % 2 * 2 + 1] = above + taken[1];
        }
    }
}

// Adds a stage's products of the finest level.
template <class Ring>
__device__ void multiply_finest(const DenseBlock& block, Ring& ring, const typename Ring::Stage& stage, int first_row,
                                int first_column, float (&sums)[4][8][4]) {
    constexpr uint32_t matrix = 16 * Ring::kChannels * 2;  // bytes
    const int lane = block.lane;
    const uint32_t row = first_row + lane % 16, column = first_column + lane % 8 + lane / 16 * 8;
    const SharedAddress query = stage.query + swizzled(row, lane / 16, Ring::kLog);
    const SharedAddress gallery = stage.gallery + swizzled(column, lane / 8 % 2, Ring::kLog);
#pragma unroll
    for (int k = 0; k < Ring::kChannels / 16; ++k) {
        const SharedAddress units = 32 * k;  // two; a row lies on a multiple of its size, which doesn't exceed 128
        Rows rows[4];
        Columns columns[8];
#pragma unroll
        for (int r = 0; r < 4; ++r) load(rows[r], (query ^ units) + r * matrix);
#pragma unroll
        for (int c = 0; c < 8; c += 2) load(columns[c], columns[c + 1], (gallery ^ units) + c / 2 * matrix);
        ring.start_part(stage.incoming, k);
        multiply(sums, rows, columns);
    }
}

// Appends a pair to its row's list, unless it is none. False: there is no room.
__device__ inline bool append_pair(const DenseBlock& block, const Tile& tile, int row, int column, float sum) {
    const DenseTables& tables = block.tables;
    const DeviceLevel& finest = block.task.level[0];
    const int64_t gallery_row = tile.index * kGalleryRows + column;
    if (tables.threshold[row] < 0 || gallery_row >= block.gallery_rows) return true;
    if (finest.raster[gallery_row % finest.positions] < 0) return true;
    if (block.task.window >= 0 && !within_window(block, row, gallery_row)) return true;
    const int at = atomicAdd(&block.tables.open[row], 1);
    if (at >= kOpen) return false;
    const float bound = tables.query_norm[row] - sum / block.dense.terms.unit;  // NaN or beyond: nothing is known
    candidate_lists(block.dense.plan)[row * kOpen + at] = {static_cast<uint32_t>(gallery_row),
                                                           fabsf(bound) <= FLT_MAX ? bound : -HUGE_VALF};
    return true;
}

// Appends the pairs that pass to their rows' lists, but for those that are `done`. True: one found no room.
__device__ inline bool append(const DenseBlock& block, const Tile& tile, int first_row, int first_column,
                              const float (&sums)[4][8][4], uint32_t (&done)[4]) {
    bool full = false;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        const int row = first_row + 16 * r + block.lane / 4;
        const float least[2] = {block.tables.least[row], block.tables.least[row + 8]};
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
            if (append_pair(block, tile, row + 8 * (i / 2 % 2),
                            first_column + 8 * (i / 4) + 2 * (block.lane % 4) + i % 2, values[i])) {
                done[r] |= 1u << i;
            } else {
                full = true;
            }
        }
    }
    return full;
}

// Settles lists that are full, or after the share's last tile all that aren't empty: a warp each.
template <bool kBilinear>
__device__ void settle_lists(const DenseBlock& block, Settler<kBilinear>& settler, bool last) {
    for (int row = block.warp; row < kQueryRows; row += kDenseThreads / 32)
        if (block.tables.open[row] > (last ? 0 : kOpen / 2)) settler.settle(row, last);
}

// Steps 2 and 3. A warp has 64 rows and 64 columns of the tile's sums.
template <class Ring>
__device__ void match_finest(const DenseBlock& block, Ring& ring, const Tile& tile, Settler<Ring::kBilinear>& settler) {
    const int first_row = 64 * (block.warp % 2), first_column = 64 * (block.warp / 2);
    float sums[4][8][4];
    typename Ring::Stage stage = ring.next_stage(tile);
    start_sums(block, tile, first_row, first_column, sums);
    for (int channel = Ring::kChannels;; channel += Ring::kChannels) {
        multiply_finest(block, ring, stage, first_row, first_column, sums);
        if (channel >= block.task.level[0].filter_channels) break;
        stage = ring.next_stage(tile);
    }
    uint32_t done[4] = {0, 0, 0, 0};
    for (bool full = true; full;) {
        full = __syncthreads_or(append(block, tile, first_row, first_column, sums, done));
        const bool last = !full && !tile.more;
        if (!full && !last) break;
        settle_lists(block, settler, last);
        __syncthreads();
    }
}

// A tile of the query against the gallery's tiles [first, last).
template <class Ring>
__device__ void match_share(const DenseBlock& block, Ring& ring, int64_t query_tile, int64_t query_rows, int64_t first,
                            int64_t last, int split) {
    Settler<Ring::kBilinear> settler(block.dense, block.tables, split);
    __syncthreads();  // the last share's tables have been read
    enter_query(block, query_tile, query_rows);
    __syncthreads();
    int64_t index = next_reachable(block, first, last);
    if (index == last) return;
    int slot = 0;
    enter_tile(block, index, slot);
    __syncthreads();
    ring.begin({index, slot, false});
    while (index < last) {
        const int64_t next = next_reachable(block, index + 1, last);
        const Tile tile{index, slot, next < last};
        if (tile.more) enter_tile(block, next, slot ^ 1);
        const float others = others_threshold(block);
        if (Ring::levels(block.task) > 1) match_coarser(block, ring, tile);
        lower_threshold(block, others);
        if (Ring::kBilinear && block.task.level_count > 1 && block.task.window >= 0) close_window(block, index);
        match_finest(block, ring, tile, settler);
        ring.enter_next_tile();
        index = next, slot ^= 1;
    }
    wait_for_copies<0>();  // zeros
}

// `kChannels`: of the finest level, in a stage. `kResident`: the query's rows stay in shared memory. `kBilinear`: the
// finest level's rows hold all levels. The shares of one split are worked on at the same time, and so read the same
// part of the gallery.
template <int kChannels, bool kResident, bool kBilinear>
__global__ void __launch_bounds__(kDenseThreads, 1) match_dense(const __grid_constant__ DenseTask dense) {
    const DenseBlock block(dense);
    const DeviceTask& task = dense.task;
    if (task.report && fresh(&task.report->not_finite) != UINT64_MAX) return;  // an error: nothing would be ruled out
    const int64_t cells = dense.query_cell_count ? *dense.query_cell_count : task.cells;
    if (cells == 0) return;
    const int64_t query_rows = cells * task.level[0].block;
    const int64_t query_tiles = ceil_div(query_rows, kQueryRows);
    const int64_t gallery_tiles = ceil_div(block.gallery_rows, kGalleryRows);
    const int64_t splits = dense_splits(query_tiles, gallery_tiles, gridDim.x, task.splits);
    StageRing<kChannels, kResident, kBilinear> ring(block);
    for (int64_t share = blockIdx.x; share < query_tiles * splits; share += gridDim.x) {
        const int64_t split = share / query_tiles;
        match_share(block, ring, share % query_tiles, query_rows, gallery_tiles * split / splits,
                    gallery_tiles * (split + 1) / splits, static_cast<int>(split));
    }
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
