// What a CPU kernel is given: plain pointers and sizes, valid for one call.
//
// The kernels' translation units are compiled for instruction sets that the machine may lack. An inline function that
// they shared with the rest of the program could be linked from one of them, and then run on a machine that lacks its
// instructions. So tasks are plain structs, and functions in shared headers have internal linkage (static).
#pragma once

#include <cstdint>

#include "images/area_task.hpp"
#include "images/gray_task.hpp"
#include "matcher/map_task.hpp"

namespace spadeline {

inline constexpr int kMaxLevels = 4;  // a ResNet has four stages

enum class Storage { float32, float16 };

static constexpr int64_t bytes_of(Storage storage) { return storage == Storage::float16 ? 2 : 4; }

inline constexpr int64_t kEverywhere = -1;  // a search radius: the whole image

// One of the kappa nearest gallery positions of a query position.
struct Neighbour {
    double distance;
    int32_t image;
    int32_t raster;  // y * width + x
};

// The mean of the kappa distances that were found; infinite if there are fewer.
static inline double mean_distance(const Neighbour* best, int64_t kappa) {
    double sum = 0;
    for (int64_t k = 0; k < kappa; ++k) sum += best[k].distance;
    return sum / static_cast<double>(kappa);
}

// Where bilinear upsampling takes a finest position's feature from: four positions of a coarser level.
struct Taps {
    int32_t position[4];
    float weight[4];
};

// What turns a level's vectors into codes: see cpu/encode.hpp.
struct Codebook {
    int64_t channels;
    int64_t dims;             // bytes of a code
    const float* mean;        // (channels)
    const float* signs;       // (dims) +1 or -1; rotated codes only
    const float* projection;  // directions in panels, see tile.hpp; projected codes only, else null
    float projection_error;   // the projection's error, relative to the vector's norm
};

// Codes of single vectors, as the encoder writes them.
struct CodeRows {
    int8_t* codes;  // (count, dims)
    float* terms;   // (count, 4): scale, norm, error, residual
    int32_t* sums;  // (count): the codes' sum
};

// The codes of one level, query and gallery: bytes whose products bound the distance from below.
struct CodeTask {
    int64_t dims;
    int64_t groups;          // records of an image
    int64_t record;          // bytes of a record: see codes.hpp
    const uint8_t* gallery;  // (n, groups, record)
    CodeRows query;          // (positions) rows
};

struct LevelTask {
    int64_t channels;
    int64_t block;                // positions per cell
    int64_t positions;            // positions per image, padding included
    int shift;                    // halvings from the finest level
    double weight;                // the factor of this level's squared distance
    const void* gallery;          // (n, positions, channels)
    const float* query;           // (cells of query_cells, block, channels)
    const Taps* taps;             // (finest positions), bilinear upsampling only, null for the finest level
    CodeTask projected, rotated;  // dims 0 where a level has none
};

// What survived the pruned path's steps.
struct Counts {
    int64_t pairs;               // pairs of cells within the window: all of them were bounded
    int64_t passed[kMaxLevels];  // pairs of a level's positions whose bound didn't exceed their threshold
    int64_t exact;               // finest pairs computed in float64
};

// Whether time is up. A plain pointer, since the kernels' translation units share no function with the rest.
struct Expiry {
    bool (*expired)(const void* clock) = nullptr;  // null: never
    const void* clock = nullptr;
};

static inline bool passed(const Expiry& expiry) { return expiry.expired && expiry.expired(expiry.clock); }

struct MatchTask {
    int level_count;
    LevelTask level[kMaxLevels];
    Storage storage;
    bool bilinear;
    int64_t cells, cell_columns;
    const int64_t* raster;  // (finest positions), negative where padded
    const uint8_t* scored;  // (finest positions), 0 where padded, ignored, or not asked for
    const float* caps;      // (finest positions): larger distances aren't asked for; null: all are
    double enough;          // a position whose mean distance is at most this is searched no further; -1: all are
    int64_t visits;         // gallery cells that a query cell visits, those of the lowest bounds; 0: all that it takes
    const int64_t* image_ids;
    int64_t image_count;
    int64_t kappa;
    int64_t window;              // search radius in cells, or kEverywhere
    int64_t dense_cost;          // multiply-adds that the dense path takes for one cell of the query
    Neighbour* best;             // (finest positions, kappa), nearest first
    const int64_t* query_cells;  // the cells that the dense path matches, ascending; null for all
    Expiry expiry;               // asked between pieces of work
};

// What one thread does of the dense path: some of the query's cells, with the chunks of the gallery that it takes.
// Threads that share cells share `next`, too. Each of them has lists of its own.
struct Share {
    int64_t first_cell, cell_count;  // indices of query_cells
    float* workspace;                // share_floats
    Neighbour* lists;                // (finest positions of the cells, kappa): may hold neighbours already
    int64_t* next;                   // the chunk that is taken next, counted over all images
    uint8_t* plain;                  // not zero once codes were found to rule out too little; of all shares
};

// What `refine` sets a cell's budget to when refining it further isn't worth its cost.
inline constexpr int64_t kHopeless = INT64_MIN;

// Query cells that one thread refines side by side, so that a gallery image's codes are in the cache for all of them
// after the first one has read them.
struct Refinement {
    static constexpr int64_t kMost = 16;  // cells: their own codes, some 30 KB each, must stay in the cache as well
    const int64_t* slots;                 // which of the cells that were bounded together, by their number
    int64_t count;                        // kMost at most
    const int64_t* cells;                 // (slots): the query's cells
    float* bounds;  // (slots, image_count, panels, kPanel), a slot's `stride` after the last one's; the bound of
                    // a gallery cell that was visited becomes infinite
    int64_t stride;
    bool resume;       // the cells have been refined before, and ran out of their budgets
    int64_t* budgets;  // (slots): what each may cost; its cost is deducted. A cell with nothing left can be resumed
                       // from `best` and `bounds`, unless its budget is kHopeless
    float* workspace;  // refine_floats for each cell
};

// One instruction set's kernels.
struct Kernels {
    const char* name;
    bool (*supported)();
    // The dense path. share_floats: the floats of workspace that a share needs. match: takes chunks until there are no
    // more; returns false if the expiry passed before.
    int64_t (*share_floats)(const MatchTask&, int64_t first_cell, int64_t cell_count);
    bool (*match)(const MatchTask&, const Share&);
    // The pruned path's steps.
    int64_t (*projection_floats)(const Codebook&);
    void (*pack_projection)(const Codebook&, const float* directions, float* panels);
    int64_t (*encode_floats)(const Codebook&);
    void (*encode)(const Codebook&, const float* rows, int64_t count, const CodeRows& codes, float* workspace);
    void (*bound_panel)(const MatchTask&, const CodeRows& queries, int64_t count, int64_t image, int64_t panel,
                        float* bounds, int64_t stride);
    int64_t (*refine_floats)(const MatchTask&);
    void (*refine)(const MatchTask&, const Refinement&, Counts&);
    // Positions beside their own place in each image: see cpu/same_place.hpp. Returns the number of distances.
    int64_t (*same_place_floats)(const MatchTask&);
    int64_t (*match_same_place)(const MatchTask&, int64_t first_cell, int64_t last_cell, float* workspace);
    // The anomaly map's steps: see cpu/smooth.hpp. map_floats: the floats of workspace that `smooth_rows` needs.
    int64_t (*map_floats)(const MapTask&);
    void (*smooth_rows)(const MapTask&, const float* values, int64_t first, int64_t last, float* rows,
                        float* workspace);
    void (*smooth_columns)(const MapTask&, const float* rows, int64_t first, int64_t last, float* map);
    // Frames are shrunk by areas: see images/cpu/area_rows.hpp. area_floats: the floats of workspace that `area_rows`
    // needs.
    int64_t (*area_floats)(const AreaTask&);
    void (*area_rows)(const AreaTask&, const AreaFrame& frame, int64_t first, int64_t last, float* workspace);
    // A frame's gray levels, and sums of them: see images/cpu/gray.hpp.
    void (*gray_levels)(const uint8_t* rgb, int64_t pixels, uint8_t* out);
    GraySums (*gray_sums)(const GrayImage& image);
    int64_t lanes;  // floats of a register
};

}  // namespace spadeline
