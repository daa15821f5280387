// The matcher: the kappa nearest gallery pixels of every query pixel, over a pyramid of feature levels.
//
//     D(p, r) = sum over levels of weight_l * |f_l(cell_l(p)) - g_l(cell_l(r))|^2
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

#include "matcher/pyramid.hpp"
#include "matcher/rounds.hpp"
#include "matcher/search.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {

enum class Upsampling { nearest, bilinear };

// One level's codes: see codes.hpp and encoder.hpp.
struct GalleryCodes {
    const float* basis = nullptr;  // (1 + directions, channels)
    int64_t directions = 0;
    const uint8_t* projected = nullptr;  // (images, groups, record); null at the finest level
    const uint8_t* rotated = nullptr;    // likewise; null at the coarsest of several levels
};

struct Gallery {
    int64_t images = 0;
    Storage storage = Storage::float32;
    std::vector<const void*> levels;  // (images, cells, block, channels) each, finest first
    std::vector<double> weights;      // one a level
    std::vector<GalleryCodes> codes;  // one a level, or none: then every query takes the dense path
};

class Matcher {
 public:
    Matcher(PyramidShape shape, Gallery gallery, int threads, const std::string& instruction_set,
            Upsampling upsampling);

    const PyramidShape& shape() const { return model_.shape; }
    int64_t images() const { return images_; }
    int threads() const { return pool_.size(); }
    const char* instruction_set() const;

    // Both throw what Search::run throws.
    Statistics match(const Request& request);
    // A verdict on one query, from as few distances as it takes.
    Outcome inspect(const Request& request, const Goal& goal);
    // Several queries side by side: each thread takes whole queries, so that no thread waits for another between steps.
    void match_batch(std::span<const Request> requests, std::span<Statistics> statistics);

 private:
    const int64_t images_;
    const Model model_;
    std::mutex turn_;
    ThreadPool pool_;
    std::vector<std::unique_ptr<Search>> searches_;  // one a thread; the first one can use all threads
    Rounds rounds_;                                  // of the first one
};

}  // namespace spadeline
