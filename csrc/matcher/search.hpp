// One query's way through the matcher, step by step. The buffers that it needs are kept from call to call, so that
// later calls allocate nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
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
// cell by cell. What is left of it then is granted to the cells that need more. The worst case measured took 1.24 times
// the time of the dense path without codes.
inline constexpr double kGuardShare = 0.08;
inline constexpr double kNoGuard = std::numeric_limits<double>::infinity();

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

// What `begin` compares the query with: each position with its own place in so many of the request's images, until its
// mean distance is at most `enough`. Codes are made when a pass needs them; without such images, at once.
struct Glance {
    int64_t images = 0;
    double enough = -1;
};

// A part of a search: which positions, in which images, and how far.
struct Pass {
    int64_t images;               // so many of the request's, in their order
    const uint8_t* positions;     // (finest positions): 0 where it isn't searched
    const float* caps = nullptr;  // (finest positions): larger distances aren't looked for; null: all are
    double enough = -1;           // a position whose mean distance is at most this is searched no further
    // Like Request's. A pass over a few cells may grant more: the dense path reads the whole gallery for each of them.
    double guard_share = kGuardShare;
    int64_t visits = 0;  // gallery cells that a query cell visits, those of the lowest bounds; 0: all that it takes
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

    // The same in steps, which rounds.hpp takes: begin, any number of passes, finish. `begin` and `pass` return false
    // if the expiry passed before they were done. Then some positions have found less than they were asked for, and
    // nothing else is wrong.
    bool begin(const Request& request, ThreadPool* pool, Expiry expiry = {}, const Glance& glance = {});
    bool pass(const Pass& pass, ThreadPool* pool);
    // Writes distances and neighbours, however late it is. A position with fewer than kappa neighbours is an error
    // (std::runtime_error: the gallery's features aren't finite); if the search went only `partly`, its distance is
    // infinite and the others' places hold -1.
    void finish(bool partly, ThreadPool* pool);
    Statistics statistics() const;

    const PyramidShape& shape() const { return model_.shape; }
    bool pruned() const { return model_.pruned; }
    const uint8_t* scored() const { return scored_.data(); }  // (finest positions)
    // The kappa nearest of a finest position so far; infinitely far where there are fewer.
    const Neighbour* best(int64_t position) const { return task_.best + position * task_.kappa; }

 private:
    // Query cells of a group that the dense path matches together, at least, if there are as many: with fewer of them
    // the coarsest level's products, which fill registers with cells, would cost as much as all others.
    static constexpr int64_t kLeastCells = 16;

    struct Codes {
        AlignedBuffer<int8_t> bytes;
        AlignedBuffer<float> terms;
        AlignedBuffer<int32_t> sums;
    };

    void gather(int64_t level, int64_t first_cell, int64_t last_cell);
    void encode(int worker, int64_t level, int64_t first_cell, int64_t last_cell);
    void gather(const QueryLevel& query, int64_t level, int64_t first, int64_t last);
    bool take_cells(ThreadPool* pool);
    void bound_and_refine(double guard_share, ThreadPool* pool);
    void refine(int64_t first, int64_t count, int64_t budget, ThreadPool* pool);
    void match_guarded(ThreadPool* pool);
    void match_dense(const MatchTask& task, int64_t cells, ThreadPool* pool);
    void match_cells(const MatchTask& task, const Share& share);
    const CodeTask& coarsest_codes() const;
    void collect(bool partly, int64_t first_cell, int64_t last_cell) const;
    bool late();
    int64_t panels() const;
    int64_t stride_of(int64_t images) const;
    int64_t band_of(int64_t images) const;

    const Model& model_;
    Request request_;
    MatchTask task_;
    std::atomic<bool> expired_ = false;
    std::vector<AlignedBuffer<float>> features_, guarded_features_;  // one a level
    std::vector<Codes> projected_, rotated_;                         // one a level
    std::vector<AlignedBuffer<float>> scratch_;                      // one a worker
    std::vector<AlignedBuffer<Neighbour>> lists_;                    // one a worker: what the dense path finds
    std::vector<int64_t> next_chunk_;                                // one a group of cells on the dense path
    uint8_t plain_ = 0;                                              // see Share; of one query
    std::mutex merging_;                                             // of lists
    std::vector<Counts> counts_;                                     // one a worker
    AlignedBuffer<float> bounds_;
    Codes coarsest_;  // of the cells that are bounded together
    CodeRows coarsest_rows_{};
    AlignedBuffer<Neighbour> best_;
    std::vector<uint8_t> scored_;      // one a finest position
    std::vector<int64_t> budgets_;     // one a slot: what it may still cost
    std::vector<uint8_t> coded_;       // one a cell: it has codes
    std::vector<int64_t> cells_;       // one a slot: the cells of a pass
    std::vector<int64_t> uncoded_;     // those of them without codes
    std::vector<int64_t> unfinished_;  // slots
    std::vector<int64_t> guarded_;     // cells
    int64_t guarded_cells_ = 0;        // of all passes
};

}  // namespace spadeline
