// Where the pixels of an anomaly map lie among the distances, and the weights of its Gaussian. The CPU's and the GPU's
// map are made with the same numbers. Computes no map.
#pragma once

#include <cstdint>
#include <vector>

#include "matcher/map_task.hpp"

namespace spadeline {

struct MapSize {
    int64_t height, width;
};

// Throws std::invalid_argument unless a map of this size can be made: no side may be smaller than the distances', sigma
// must lie between 0 and 1000, and there are masks of the map and of the distances, or neither.
void check_map(MapSize distances, MapSize map, double sigma, const uint8_t* ignore, const uint8_t* ignored_distances);

// The places of `map_side` pixels among `side` distances. Half-pixel centres: pixel i of the map lies at
// (i + 1/2) * side / map_side - 1/2, clamped to the distances.
std::vector<Place> places(int64_t side, int64_t map_side);

// A Gaussian's weights, int(4 sigma + 1/2) pixels to either side; their sum is 1, within their roundings. For sigma 0
// it is one weight of 1.
std::vector<float> gaussian(double sigma);

// 1 for what is scored, 0 for what is ignored.
std::vector<float> scored_of(const uint8_t* ignored, int64_t count);

}  // namespace spadeline
