// Random distances of which anomaly maps are made, the maps that the CPU makes, and their formula in float64.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "matcher/aligned.hpp"
#include "matcher/heatmap.hpp"
#include "support/features.hpp"

namespace spadeline {

struct HeatmapCase {
    uint64_t seed;
    MapSize size, map;
    double sigma;
    bool root;
    std::vector<double> distances;
    std::vector<uint8_t> ignore, ignored_distances;  // or empty
    float theta;

    std::string name() const;
    double value(int64_t i) const { return root ? std::sqrt(distances[i]) : distances[i]; }
};

// A mask of one or two rectangles and single pixels, sometimes of everything or of nothing.
std::vector<uint8_t> random_mask(Random& random, MapSize size);

// The distances that no scored pixel uses, not even in part.
std::vector<uint8_t> ignored_below(const HeatmapCase& c);

HeatmapCase random_map(uint64_t seed);

// The map in float64, made from the formula alone.
std::vector<double> formula(const HeatmapCase& c);

// How far float32 may be off, in units of 2^-24 of the largest value m. A value is rounded: 1. Each of two mixes takes
// its part, 1 - part, two products and a sum: 4 m. Each Gaussian takes its weights, its products and as many sums: side
// + 2. With a mask there is a divisor of at least 1/4 that is off by as much, and one that is off by as much as what it
// divides.
double tolerance(const HeatmapCase& c);

Heatmap heatmap_of(const Kernels& kernels, const HeatmapCase& c);

// The map of a case's distances, or of others of its size.
std::vector<float> map_of(const Heatmap& heatmap, const HeatmapCase& c, const std::vector<double>& distances,
                          ThreadPool* pool = nullptr);

}  // namespace spadeline
