// Turns the matcher's distances into the anomaly map, on the CPU.
//
//     map = Gaussian(S * bilinear(s * distances) / bilinear(s)) / Gaussian(S)
//
// s is 1 at the distances that are scored and S at the map's pixels that are, elsewhere 0; without a mask the divisors
// are 1. Python's anomaly_map is this one, and so is the GPU's, to the last bit: cuda/heatmap.hpp. The map is monotone,
// to the last bit, too: if no distance of one frame is larger than the same distance of another one, then no pixel of
// its map is (csrc/README.md, "The anomaly map"). Masks above theta, regions and pictures are not made here.
#pragma once

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "matcher/map_geometry.hpp"
#include "matcher/match_task.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {

// Half of float32's range: weighted means of smaller numbers can't round to infinity.
inline constexpr double kLargestDistance = static_cast<double>(std::numeric_limits<float>::max()) / 2;

// Turns `count` distances, or their roots, into the values that a map is made of: 0 where ignored, and
// kLargestDistance where a distance is larger or NaN. `ignored` may be null. Returns the largest scored distance, or
// root, as it was: NaN if one is NaN, 0 if there is none.
double map_values(const double* distances, int64_t count, bool root, const uint8_t* ignored, float* values);

// What no frame changes. Any number of threads may make maps with one.
class Heatmap {
 public:
    // A map is no smaller than the distances. Sigma is in the map's pixels; with 0 nothing is smoothed. The masks, both
    // or neither, aren't zero where nothing is scored. `ignore` has the map's size. `ignored_distances` has the
    // distances' and is what the matcher takes: it is zero at the distance that covers a scored pixel. Throws
    // std::invalid_argument.
    Heatmap(const Kernels& kernels, MapSize distances, MapSize map, double sigma, const uint8_t* ignore = nullptr,
            const uint8_t* ignored_distances = nullptr);
    Heatmap(const Heatmap&) = delete;  // the task points into what this object owns
    Heatmap& operator=(const Heatmap&) = delete;

    MapSize distances() const { return {task_.height, task_.width}; }
    MapSize map() const { return {task_.map_height, task_.map_width}; }
    int64_t radius() const { return task_.radius; }
    const char* instruction_set() const { return kernels_.name; }

    // Floats of workspace that `make` needs, aligned as an AlignedBuffer is.
    int64_t floats() const;
    // From (h, w) values, none of them negative or above kLargestDistance, to the (H, W) map, 0 where ignored. Values
    // where distances are ignored must be 0. `pool` may be null, and small maps don't use it; it doesn't change the
    // map. The caller sees to the environment (arithmetic.hpp).
    void make(const float* values, float* map, float* workspace, ThreadPool* pool) const;

    // The first and one past the last row (column) of the distances that row y (column x) of the map depends on.
    std::pair<int64_t, int64_t> rows_of(int64_t y) const { return support(place_y_, y); }
    std::pair<int64_t, int64_t> columns_of(int64_t x) const { return support(place_x_, x); }

 private:
    std::pair<int64_t, int64_t> support(const std::vector<Place>& places, int64_t i) const;
    void weigh(const uint8_t* ignore, const uint8_t* ignored_distances);
    void run(const MapTask& task, const float* values, float* map, float* workspace, ThreadPool* pool) const;

    const Kernels& kernels_;
    std::vector<Place> place_y_, place_x_;
    std::vector<int32_t> first_x_;
    std::vector<float> part_x_, rest_x_, weights_, enlarged_divisor_, divisor_;
    std::vector<int64_t> rows_y_;
    MapTask task_{};  // points to them
};

}  // namespace spadeline
