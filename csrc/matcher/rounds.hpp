// A verdict before all distances are known.
//
// The map is monotone in the distances, to the last bit (heatmap.hpp). So upper bounds of the distances give an upper
// bound of the map, and lower bounds a lower one. A pixel whose upper bound is at most theta is normal, one whose lower
// bound is above theta is anomalous, and only what lies between needs more of the search:
//
//     1. every position is compared with its own place in the nearest few images, until its distance is well below
//        theta. This takes no codes, and decides most frames that look like their normal images;
//     2. the positions that an undecided pixel depends on, in the most likely cells of these images;
//     3. if the upper map isn't far above theta: in the most likely cells of all images;
//     4. for a label: the positions about the upper map's peak, in all images, as far as it takes to prove a defect;
//     5. all distances of the positions that an undecided pixel depends on. Then upper and lower bound are the map.
//
// A position's upper bound is the mean of its nearest so far. Its lower bound comes from a pass over all images that
// looked for no distance above a cap: what it didn't find is larger.
#pragma once

#include <cstdint>
#include <vector>

#include "matcher/heatmap.hpp"
#include "matcher/search.hpp"

namespace spadeline {

// What a result must be exact in.
enum class Need { map, mask, label };

struct Goal {
    const Heatmap* heatmap = nullptr;  // over the finest level's positions
    Need need = Need::map;
    bool root = false;  // the map is made of the distances' roots
    // A pixel is normal up to `normal` and anomalous above `anomalous`, which is no smaller; in between it needs its
    // own value.
    float normal = 0, anomalous = 0;
    Expiry expiry;
    float* upper = nullptr;  // (H, W): the map's upper bound
    float* lower = nullptr;  // (H, W): its lower bound
};

struct Outcome {
    Statistics statistics;
    int64_t passes = 0;      // over positions and images
    bool decided = false;    // upper and lower bound say all that is needed: see Need
    double largest = 0;      // the largest distance, or root, that is known exactly
    double map_seconds = 0;  // of the time that it took
};

class Rounds {
 public:
    explicit Rounds(Search& search);

    // Reaches one goal about one query. `request.distances` gets upper bounds, infinite where fewer than kappa
    // neighbours were found. Throws what Search::run throws.
    Outcome run(const Request& request, const Goal& goal, ThreadPool* pool);

 private:
    bool search_all(ThreadPool* pool);
    Glance glance() const;
    bool narrow(ThreadPool* pool);
    bool search_near(bool& worthwhile, ThreadPool* pool);
    bool search_likely(ThreadPool* pool);
    bool prove(ThreadPool* pool);
    bool search_undecided(ThreadPool* pool);
    void take_undecided();
    int64_t take_open(double enough);
    int64_t count_open(double enough) const;
    bool pass(const Pass& pass, ThreadPool* pool);
    void make_upper(ThreadPool* pool);
    void make_lower(ThreadPool* pool);
    void make(float* map, ThreadPool* pool);
    bool undecided(int64_t pixel) const;
    bool decided() const;
    const float* peak_pixel() const;
    double enough() const;
    double upper_value(int64_t position) const;
    double distance_of(double value) const;

    struct Part {  // of a cell in the peak
        int64_t cell;
        double part;
    };

    Search& search_;
    const PyramidShape& shape_;
    const Goal* goal_ = nullptr;
    Outcome outcome_;
    int64_t images_ = 0, kappa_ = 1;
    bool lower_stale_ = false;          // distances or their lower bounds were proven since the lower map was made
    std::vector<uint8_t> complete_;     // (finest positions): its distance is known
    std::vector<uint8_t> positions_;    // (finest positions): those of a pass
    std::vector<float> caps_;           // (finest positions): of a pass
    std::vector<double> proven_;        // (finest positions): a lower bound of its distance
    std::vector<int64_t> position_of_;  // (h, w): the finest position of each pixel
    std::vector<double> bounds_;        // (h, w): distances' bounds, on their way to the map
    std::vector<float> values_;         // (h, w)
    std::vector<uint8_t> ignored_;      // (h, w)
    std::vector<int32_t> undecided_;    // (H + 1, W + 1): undecided pixels above and to the left of a corner
    std::vector<std::pair<int64_t, int64_t>> map_rows_, map_columns_;  // see `inverse`
    std::vector<Part> parts_;
    AlignedBuffer<float> workspace_;
};

}  // namespace spadeline
