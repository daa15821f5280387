// The argument of every CUDA kernel: device pointers and sizes, valid for one sequence of launches.
//
// The gallery lies on the device in slots, each with all levels of one image. A query's k-th image lies in slot
// slots[k], and its id is image_ids[k]. Positions are cell-blocked, as on the CPU.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"
#include "matcher/cuda/device.cuh"
#include "matcher/match_task.hpp"

#ifndef __grid_constant__  // nvcc: kernels read the parameter where it lies, without a copy for each thread
#define __grid_constant__
#endif

namespace spadeline::cuda {

inline constexpr int kMostKappa = 32;  // a list has one entry for each lane of a warp

struct DeviceCodebook {
    int32_t dims;             // bytes of a code; 0 if the level has none of this kind
    const float* mean;        // (channels)
    const float* signs;       // (dims), for rotated codes
    const float* projection;  // (dims, channels); null for rotated codes
    float projection_error;
};

struct DeviceCodes {
    DeviceCodebook book;
    int32_t group;           // vectors of one record
    int64_t groups, record;  // records of an image; bytes of a record: see codes.hpp
    const uint8_t* gallery;  // (slots, groups, record)
    uint8_t* query;          // (groups, record), but with signed bytes
    float* projections;      // (positions, dims) of the query; null where nothing is projected
};

struct DeviceLevel {
    int32_t channels, block;  // positions per cell
    int64_t positions;        // per image, padding included
    int64_t height, width;    // without padding
    int32_t shift;            // halvings from the finest level
    double weight;            // the factor of this level's squared distance
    const int64_t* raster;    // (positions), y * width + x, negative where padded
    const void* source;       // the query as the caller gives it: (channels, height, width)
    const void* gallery;      // (slots, positions, channels) float32 or float16
    float* query;             // (positions, channels)
    float* thresholds;        // (positions): the largest of all finest positions below
    const Taps* taps;         // (finest positions), bilinear upsampling only, null for the finest level
    DeviceCodes projected, rotated;

    // The dense path's filter: rows in float16, padded to filter_channels, times a power of two; lowered norms. With
    // bilinear upsampling the finest level's rows hold all levels, and the others have none.
    int32_t filter_channels;
    __half* gallery_filter;       // (slots, positions, filter_channels)
    float* gallery_filter_norms;  // (slots, positions), summed over the levels at the finest
    __half* query_filter;         // (positions, filter_channels)
    float* query_filter_norms;    // (positions)
};

// The report of a frame's kernels; the host reads it when they are done.
struct DeviceReport {
    uint64_t counters[kMaxLevels + 3];  // Counts, then the number of guarded cells
    uint64_t not_finite;                // the query's first bad feature, see encode.cuh; all ones if there is none
    uint32_t short_lists;               // positions with fewer than kappa finite distances
};

struct DeviceTask {
    int32_t level_count;
    DeviceLevel level[kMaxLevels];
    Storage storage, query_storage;
    bool bilinear;  // upsampling; else nearest
    int64_t cells, cell_columns;
    const uint8_t* ignore;     // (h, w) of the finest level, not zero where nothing is scored; or null
    uint8_t* scored;           // (finest positions), 0 where padded or ignored
    const int64_t* image_ids;  // (image_count)
    const int32_t* slots;      // (image_count)
    int32_t image_count;
    int32_t kappa;
    int64_t window;      // search radius in cells, or kEverywhere
    int32_t splits;      // lists of each position, which are merged at the end
    float* thresholds;   // (finest positions): a pair whose bound exceeds it isn't among the nearest
    Neighbour* best;     // (splits, finest positions, kappa), nearest first
    uint64_t* counters;  // DeviceReport's

    // The pruned path's own.
    int64_t first_cell, band;  // the query's cells that are bounded now
    int64_t panels, stride;    // panels of an image's bounds; bounds of a query cell
    float* bounds;             // (band, image_count, panels, kPanel)
    int32_t* locks;            // (finest positions), of the first list
    uint32_t* taken;           // (cells): batches of bounds that warps have taken
    uint64_t* spent;           // (cells): what a cell has cost
    uint64_t budget;           // what a cell may cost
    uint32_t* given_up;        // (cells), not zero if the dense path matches the cell
    int32_t* guarded;          // the cells that are given up, guarded_count of them
    int32_t* guarded_count;
    DeviceReport* report;
};

}  // namespace spadeline::cuda
