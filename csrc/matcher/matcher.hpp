// The matcher: the kappa nearest gallery pixels of every query pixel, over a pyramid of feature levels.
//
//     D(p, r) = sum over levels of |f_l(cell_l(p)) - g_l(cell_l(r))|^2
//     distances[p] = mean of the kappa smallest D(p, r) over all pixels r of the images asked for
//
// The gallery is read where it lies and must outlive the matcher. Calls from several threads take turns: one call uses
// the whole team of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "matcher/aligned.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {

enum class Upsampling { nearest, bilinear };

struct Gallery {
    int64_t images = 0;
    Storage storage = Storage::float32;
    std::vector<const void*> levels;  // (images, cells, block, channels) each, finest first
};

struct QueryLevel {
    const void* data = nullptr;  // (channels, height, width), contiguous
    Storage storage = Storage::float32;
};

// A feature that is NaN or infinite.
struct NotFinite {
    int64_t level, channel, y, x;
};

class Matcher {
 public:
    Matcher(PyramidShape shape, Gallery gallery, int threads, const std::string& instruction_set,
            Upsampling upsampling);

    const PyramidShape& shape() const { return shape_; }
    int64_t images() const { return gallery_.images; }
    int threads() const { return pool_.size(); }
    const char* instruction_set() const { return kernels_.name; }
    // Pixels of one image within `window` cells of the query's worst-placed pixel: kappa's limit is this times images.
    int64_t reachable(int64_t window) const;

    // distances: (h, w); neighbours: (h, w, kappa, 3) as (image, y, x), nearest first, ties to the smaller. Image ids
    // must be distinct and in range, kappa between 1 and reachable(window) * ids. A negative window searches
    // everywhere. Throws NotFinite for the query's first bad feature, std::runtime_error for a gallery that holds one.
    void match(std::span<const QueryLevel> query, std::span<const int64_t> image_ids, int64_t kappa, int64_t window,
               double* distances, int32_t* neighbours);

 private:
    void encode(std::span<const QueryLevel> query, int64_t first_cell, int64_t last_cell);
    void collect(int64_t kappa, int64_t first_cell, int64_t last_cell, double* distances, int32_t* neighbours) const;
    std::vector<Taps> taps_of(int64_t level) const;

    const PyramidShape shape_;
    const Gallery gallery_;
    const Kernels& kernels_;
    MatchTask task_{};
    std::vector<std::vector<Taps>> taps_;
    std::mutex turn_;
    ThreadPool pool_;
    std::vector<AlignedBuffer<float>> encoded_;     // one a level
    std::vector<AlignedBuffer<float>> workspaces_;  // one a thread
    AlignedBuffer<Neighbour> best_;
};

}  // namespace spadeline
