// Step 2 of the pruned path: bounds of all pairs of cells from the coarsest level's codes.
//
// A block bounds 64 cells of the query by four panels of kPanel gallery cells. The bytes of both sides have the same
// layout. They are staged in shared memory, and a thread multiplies 4 x 4 pairs. Only the bounds are written. Bounds of
// gallery cells outside the window, or that fill up an image's last panel, are infinite.
#pragma once

#include <cmath>
#include <cstdint>

#include "matcher/cuda/bound.cuh"
#include "matcher/cuda/task.cuh"
#include "matcher/cuda/warp.cuh"

namespace spadeline::cuda {

inline constexpr int kCoarsePanels = 4, kCoarseCells = kCoarsePanels * static_cast<int>(kPanel);
inline constexpr int kCoarseThreads = 256;  // 4 x 4 pairs each make 64 x 64
// Words of four bytes that are staged of every cell at a time: then each thread copies 16 bytes of either side.
inline constexpr int kCoarseWords = 16;

__device__ __forceinline__ const DeviceCodes& coarsest_codes(const DeviceTask& task) {
    const DeviceLevel& level = task.level[task.level_count - 1];
    return task.level_count > 1 ? level.projected : level.rotated;
}

// Where four neighbours among the cells lie, and which pairs of two such fours are within the window: bit 4 i + j.
struct Places {
    int row[4], column[4];

    __device__ Places(const DeviceTask& task, int64_t first_cell) {
        const int columns = static_cast<int>(task.cell_columns), first = static_cast<int>(first_cell);
#pragma unroll
        for (int i = 0; i < 4; ++i) row[i] = (first + i) / columns, column[i] = (first + i) % columns;
    }
};
__device__ __forceinline__ unsigned within_window(const DeviceTask& task, int64_t first_query, int64_t first_gallery) {
    if (task.window < 0) return 0xffff;
    const Places query(task, first_query), gallery(task, first_gallery);
    unsigned within = 0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const int dy = query.row[i / 4] - gallery.row[i % 4], dx = query.column[i / 4] - gallery.column[i % 4];
        within |= unsigned{(dy < 0 ? -dy : dy) <= task.window && (dx < 0 ? -dx : dx) <= task.window} << i;
    }
    return within;
}

__global__ void __launch_bounds__(kCoarseThreads) coarse_kernel(const __grid_constant__ DeviceTask task) {
    const DeviceCodes& codes = coarsest_codes(task);
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t first_panel = int64_t{blockIdx.x} * kCoarsePanels, panels = task.image_count * task.panels;
    const int64_t first_cell = task.first_cell + int64_t{blockIdx.y} * kCoarseCells;  // of the query
    const int64_t end_cell = task.first_cell + task.band < task.cells ? task.first_cell + task.band : task.cells;

    // This thread's pairs: cells query to query + 3, and gallery to gallery + 3 of an image.
    const int64_t query = first_cell + thread / 16 * 4;
    const int64_t panel = first_panel + thread % 16 / 4, image = panel / task.panels;
    const int64_t gallery = panel % task.panels * kPanel + thread % 4 * 4;
    unsigned open = panel < panels ? within_window(task, query, gallery) : 0;  // a bit for each pair that is one
    for (int i = 0; i < 16; ++i)
        if (query + i / 4 >= end_cell || gallery + i % 4 >= task.cells) open &= ~(1u << i);

    int sum[16] = {};
    if (__syncthreads_or(open != 0)) {
        auto* queries = reinterpret_cast<uint4*>(shared_memory());  // (kCoarseWords, kCoarseCells) words
        uint4* galleries = queries + kCoarseWords * kCoarseCells / 4;
        const int at = thread % 64 / 4, quarter = thread % 4;  // the word and the four cells that this thread stages
        const int64_t from_cells = first_cell / kPanel + thread / 64, from_panel = first_panel + thread / 64;
        const bool cells_there = from_cells * kPanel < end_cell, panel_there = from_panel < panels;
        const uint8_t* query_record = codes.query + from_cells * codes.record;
        const uint8_t* record = codes.gallery;
        if (panel_there)
            record += (task.slots[from_panel / task.panels] * codes.groups + from_panel % task.panels) * codes.record;
        const int to = at * (kCoarseCells / 4) + thread / 64 * 4 + quarter;
        for (int word = 0; word < codes.book.dims / 4; word += kCoarseWords) {
            const bool there = word + at < codes.book.dims / 4;
            const uint4 zero = {0, 0, 0, 0};
            const int64_t from = int64_t{word + at} * 4 + quarter;
            queries[to] = there && cells_there ? reinterpret_cast<const uint4*>(query_record)[from] : zero;
            galleries[to] = there && panel_there ? reinterpret_cast<const uint4*>(record)[from] : zero;
            __syncthreads();
            const int words = codes.book.dims / 4 - word < kCoarseWords ? codes.book.dims / 4 - word : kCoarseWords;
            for (int w = 0; w < words; ++w)
                multiply_codes(queries[w * (kCoarseCells / 4) + thread / 16],
                               galleries[w * (kCoarseCells / 4) + thread % 16], sum);
            __syncthreads();
        }
    }

    if (panel >= panels) return;
    const auto weight = static_cast<float>(task.level[task.level_count - 1].weight);
    const uint8_t* record = codes.gallery + (task.slots[image] * codes.groups + panel % task.panels) * codes.record;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        if (query + q >= end_cell) return;
        const Terms a =
            terms_of(codes, codes.query + (query + q) / kPanel * codes.record, static_cast<int>((query + q) % kPanel));
        float bound[4];
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            const Terms b = terms_of(codes, record, static_cast<int>((gallery + g) % kPanel));
            const bool pair = open >> (4 * q + g) & 1;
            bound[g] = pair ? weight * lower_bound(a, b, sum[4 * q + g]) : HUGE_VALF;
        }
        float* out = task.bounds + (query + q - task.first_cell) * task.stride + panel * kPanel + gallery % kPanel;
        *reinterpret_cast<float4*>(out) = {bound[0], bound[1], bound[2], bound[3]};
    }
}

inline cudaError_t launch_coarse(const DeviceTask& task, cudaStream_t stream) {
    const dim3 grid(blocks_for(task.image_count * task.panels, kCoarsePanels), blocks_for(task.band, kCoarseCells));
    return launch(coarse_kernel, grid, kCoarseThreads, 2 * kCoarseWords * kCoarseCells * sizeof(unsigned), stream,
                  task);
}

}  // namespace spadeline::cuda
