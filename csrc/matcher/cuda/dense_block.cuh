// What a block of the dense path works on: a tile of the query's rows, and one tile of the gallery's rows after the
// other. Here are the rows' places, norms and thresholds, and the search window. Nothing is multiplied here.
//
// Positions are counted in cell-blocked order, so that a tile's first, fourth, sixteenth, ... row begins a position of
// each coarser level, whatever the size of a cell. Rows of the gallery are counted through all images asked for.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "matcher/cuda/mma.cuh"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/settle.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

// What stays the same for a block as long as it runs.
struct DenseBlock {
    const DenseTask& dense;
    const DeviceTask& task;
    DenseTables& tables;
    const int64_t gallery_rows;
    const int warp, lane;

    __device__ explicit DenseBlock(const DenseTask& launched)
        : dense(launched),
          task(launched.task),
          tables(*reinterpret_cast<DenseTables*>(shared_memory())),
          gallery_rows(task.image_count * task.level[0].positions),
          warp(warp_index()),
          lane(lane_index()) {}
};

// One of the gallery's tiles. A block knows the places of two: of the one that it multiplies, and of the next one.
struct Tile {
    int64_t index;
    int slot;   // where `place` and `norm` of its rows lie; the next tile's lie in the other slot
    bool more;  // there is a next tile, whose places are known
};

// The tile's query rows: which positions they are, and what they want. A barrier must follow.
__device__ inline void enter_query(const DenseBlock& block, int64_t query_tile, int64_t query_rows) {
    DenseTables& tables = block.tables;
    const DeviceTask& task = block.task;
    if (threadIdx.x == 0) tables.lowest_row = INT32_MAX, tables.highest_row = 0;
    for (int i = threadIdx.x; i < kQueryRows / 4 * (kGalleryRows / 4); i += kDenseThreads) (&tables.start[0][0])[i] = 0;
    __syncthreads();
    if (threadIdx.x >= kQueryRows) return;
    const int64_t row = query_tile * kQueryRows + threadIdx.x, within = std::min(row, query_rows - 1);
    const int64_t positions = task.level[0].block, index = within / positions;  // of a cell
    const int64_t cell = block.dense.query_cells ? block.dense.query_cells[index] : index;
    const int64_t position = cell * positions + within % positions;
    const int i = static_cast<int>(threadIdx.x);
    tables.query[i] = static_cast<uint32_t>(position);
    tables.query_norm[i] = task.level[0].query_filter_norms[position];
    tables.threshold[i] = row == within && task.scored[position] ? FLT_MAX : -HUGE_VALF;
    tables.open[i] = 0;
    if (task.window < 0) return;
    const int cell_row = static_cast<int>(cell / task.cell_columns);
    atomicMin(&tables.lowest_row, cell_row);
    atomicMax(&tables.highest_row, cell_row);
}

// Where a gallery tile's rows lie, and their norms. A thread a row; the norms are on their way until the next stage is.
__device__ inline void enter_tile(const DenseBlock& block, int64_t index, int slot) {
    DenseTables& tables = block.tables;
    const DeviceLevel& finest = block.task.level[0];
    const auto positions = static_cast<uint32_t>(finest.positions);
    const auto row = static_cast<uint32_t>(index * kGalleryRows + threadIdx.x);
    const uint32_t within = std::min(row, static_cast<uint32_t>(block.gallery_rows - 1));
    const uint32_t place = static_cast<uint32_t>(block.task.slots[within / positions]) * positions + within % positions;
    tables.place[slot][threadIdx.x] = place;
    if (row == within) {
        start_copy<4>(shared_address(&tables.norm[slot][threadIdx.x]), finest.gallery_filter_norms + place);
    } else {
        tables.norm[slot][threadIdx.x] = HUGE_VALF;
    }
}

// Whether any row of a gallery tile may lie within the window of any of the query's rows.
__device__ inline bool reaches(const DenseBlock& block, int64_t index) {
    const DeviceTask& task = block.task;
    const int64_t positions = task.level[0].positions, cell = task.level[0].block;
    const int64_t first = index * kGalleryRows, last = std::min(first + kGalleryRows, block.gallery_rows) - 1;
    if (first / positions != last / positions) return true;  // rows of two images
    const int64_t top = first % positions / cell / task.cell_columns;
    const int64_t bottom = last % positions / cell / task.cell_columns;
    return top <= block.tables.highest_row + task.window && block.tables.lowest_row <= bottom + task.window;
}

// The first such tile from this one on, or `last`.
__device__ inline int64_t next_reachable(const DenseBlock& block, int64_t index, int64_t last) {
    while (index < last && block.task.window >= 0 && !reaches(block, index)) ++index;
    return index;
}

__device__ inline bool within_window(const DenseBlock& block, int query_row, int64_t gallery_row) {
    const DeviceTask& task = block.task;
    const int64_t positions = task.level[0].block, columns = task.cell_columns;  // of a cell
    const int64_t a = block.tables.query[query_row] / positions;
    const int64_t b = gallery_row % task.level[0].positions / positions;
    const int64_t dy = a / columns - b / columns, dx = a % columns - b % columns;
    return std::max(dy, -dy) <= task.window && std::max(dx, -dx) <= task.window;
}

// Where all levels lie in the finest level's rows, no coarser level's sums are there to start from. What starts are
// zeros, or, outside the window, sums that never pass.
__device__ inline void close_window(const DenseBlock& block, int64_t index) {
    for (int i = threadIdx.x; i < kQueryRows / 4 * (kGalleryRows / 4); i += kDenseThreads) {
        const int y = i / (kGalleryRows / 4), x = i % (kGalleryRows / 4);
        block.tables.start[y][x] = within_window(block, 4 * y, index * kGalleryRows + 4 * x) ? 0 : -HUGE_VALF;
    }
}

// What other blocks lowered the threshold of the thread's row to. It is asked for early, since the answer takes long.
__device__ inline float others_threshold(const DenseBlock& block) {
    return threadIdx.x < kQueryRows ? fresh(block.task.thresholds + block.tables.query[threadIdx.x]) : FLT_MAX;
}

// Between here and what reads `least` lies the barrier of the finest level's first stage.
__device__ inline void lower_threshold(const DenseBlock& block, float others) {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= kQueryRows) return;
    const float threshold = fminf(block.tables.threshold[i], others);  // a negative one stays: no other is negative
    block.tables.threshold[i] = threshold;
    block.tables.least[i] = least_sum(threshold, block.tables.query_norm[i], block.dense.terms.unit);
}

}  // namespace spadeline::cuda
