// What a CPU kernel is given: plain pointers and sizes, valid for one call.
//
// Plain, because the kernels' translation units are compiled for instruction sets that the machine may lack: any
// inline library function that they shared with the rest of the program could be linked from the wrong one.
#pragma once

#include <cstdint>

namespace spadeline {

inline constexpr int kMaxLevels = 4;

enum class Storage { float32, float16 };

// One of the kappa nearest gallery positions of a query position.
struct Neighbour {
    double distance;
    int32_t image;
    int32_t raster;  // y * width + x
};

// Where bilinear upsampling takes a finest position's feature from: four positions of a coarser level.
struct Taps {
    int32_t position[4];
    float weight[4];
};

struct LevelTask {
    int64_t channels;
    int64_t block;        // positions per cell
    int64_t positions;    // positions per image, padding included
    int shift;            // halvings from the finest level
    const void* gallery;  // (n, positions, channels)
    const float* query;   // (positions, channels)
    const Taps* taps;     // (finest positions), bilinear upsampling only, null for the finest level
};

struct MatchTask {
    int level_count;
    LevelTask level[kMaxLevels];
    Storage storage;
    bool bilinear;
    int64_t cells, cell_columns;
    const int64_t* raster;  // (finest positions), negative where padded
    const int64_t* image_ids;
    int64_t image_count;
    int64_t kappa;
    int64_t window;  // search radius in cells, negative: everywhere
};

// The share of the query's cells that one thread owns, and the room it works in (see share_floats).
struct Share {
    int64_t first_cell, cell_count;
    Neighbour* best;  // (cell_count * finest block, kappa), nearest first, distance infinite where none was found
    float* workspace;
};

// One instruction set's kernels.
struct Kernels {
    const char* name;
    bool (*supported)();
    // Floats of workspace that a share of this many cells needs.
    int64_t (*share_floats)(const MatchTask&, int64_t first_cell, int64_t cell_count);
    void (*match)(const MatchTask&, const Share&);
};

}  // namespace spadeline
