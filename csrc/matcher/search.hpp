// One query's way through the matcher, step by step. The buffers that it needs are kept from call to call, so that
// later calls allocate nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "matcher/aligned.hpp"
#include "matcher/encoder.hpp"
#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {

struct QueryLevel {
    const void* data = nullptr;  // (channels, height, width), contiguous
    Storage storage = Storage::float32;
};

// What pruning may cost before the dense path takes over, as a part of the dense path's work. Half of it is granted
// cell by cell. What is left of it then is granted to the cells that need more. The worst case measured took 1.10 times
// the dense path's time.
inline constexpr double kGuardShare = 0.08;

// One query and what is asked about it. Image ids must be distinct and in range, kappa between 1 and
// PyramidShape::reachable(window) * ids.
struct Request {
    std::span<const QueryLevel> levels;
    std::span<const int64_t> image_ids;
    int64_t kappa = 1;
    std::optional<int64_t> window;    // search radius in cells; none: the whole image
    const uint8_t* ignore = nullptr;  // (h, w), not zero where a pixel isn't scored; null if all are
    double* distances = nullptr;      // (h, w); 0 where ignored
    int32_t* neighbours = nullptr;    // (h, w, kappa, 3) as (image, y, x), nearest first, ties to the smaller; or -1
    // Others than this are for tests: with 0 every cell is given up, with infinity none is.
    double guard_share = kGuardShare;
};

struct Statistics {
    Counts counts{};
    int64_t guarded_cells = 0;  // query cells that the dense path finished
};

// A feature that is NaN or infinite.
struct NotFinite {
    int64_t level, channel, y, x;
    int64_t query = 0;  // its number within the batch
};

// What no query changes.
struct Model {
    Model(PyramidShape pyramid, const Kernels& instruction_set)
        : shape(std::move(pyramid)), kernels(instruction_set), taps(shape.level_count()) {}

    PyramidShape shape;
    const Kernels& kernels;
    MatchTask task{};                                               // without the query, taps and encoders
    std::vector<std::vector<Taps>> taps;                            // bilinear upsampling only
    std::vector<std::unique_ptr<LevelEncoder>> projected, rotated;  // one a level, null where it has no such codes
    bool pruned = false;
};

class Search {
 public:
    Search(const Model& model, int workers);

    // Allocates all the memory that `run` can need, whichever thread takes which piece of work, and whether or not the
    // guard fires.
    void reserve(const Request& request);

    // Matches one query, on the pool or, without a pool, on the caller's thread. Throws NotFinite for a feature of the
    // query that is NaN or infinite, std::runtime_error for one of the gallery.
    Statistics run(const Request& request, ThreadPool* pool);

 private:
    struct Codes {
        AlignedBuffer<int8_t> bytes;
        AlignedBuffer<float> terms;
        AlignedBuffer<int32_t> sums;
    };

    void begin(const Request& request);
    void encode(const Request& request, int worker, int64_t first_cell, int64_t last_cell);
    void gather(const QueryLevel& query, int64_t level, int64_t first, int64_t last);
    void bound_and_refine(const Request& request, ThreadPool* pool);
    void refine(int64_t first, int64_t count, int64_t budget, float* bounds, int64_t stride, ThreadPool* pool);
    void match_guarded(ThreadPool* pool);
    bool match_dense(const MatchTask& task, int64_t cells, ThreadPool* pool);
    bool match_cells(const MatchTask& task, const Share& share);
    void collect(const Request& request, int64_t first_cell, int64_t last_cell) const;
    int64_t panels() const;
    int64_t stride_of(const Request& request) const;
    int64_t band_of(const Request& request) const;

    const Model& model_;
    MatchTask task_;
    std::vector<AlignedBuffer<float>> features_, guarded_features_;  // one a level
    std::vector<Codes> projected_, rotated_;                         // one a level
    std::vector<AlignedBuffer<float>> scratch_;                      // one a worker
    std::vector<AlignedBuffer<Neighbour>> lists_;                    // one a worker: what the dense path finds
    std::vector<int64_t> next_chunk_;                                // one a group of cells on the dense path
    std::mutex merging_;                                             // of lists
    std::vector<Counts> counts_;                                     // one a worker
    AlignedBuffer<float> bounds_;
    AlignedBuffer<Neighbour> best_;
    std::vector<uint8_t> scored_;                // one a finest position
    std::vector<int64_t> budgets_;               // one a cell: what it may still cost
    std::vector<int64_t> unfinished_, guarded_;  // cells
};

}  // namespace spadeline
