// Random features of many kinds, and a second implementation of the layout in csrc/README.md.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"

namespace spadeline {

class Random {
 public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    int64_t below(int64_t count) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(count)); }
    int64_t upto(int64_t most) { return 1 + below(most); }
    bool one_in(int64_t count) { return below(count) == 0; }
    double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
    double normal() {  // by Box and Muller, since the standard library's differ from machine to machine
        const double size = std::sqrt(-2 * std::log(1 - uniform()));
        return size * std::cos(2 * std::numbers::pi * uniform());
    }

 private:
    std::mt19937_64 engine_;
};

// One level's features: (images, channels, height, width), or in the matcher's layout.
struct Map {
    std::vector<float> values;
    std::vector<uint16_t> halves;  // the same values, if they are stored as float16

    const void* data() const { return halves.empty() ? static_cast<const void*>(values.data()) : halves.data(); }
};

enum class Values {
    normal,
    bits,    // 0 or 1: many ties
    digits,  // -3 to 3
    bytes,   // -127 to 127: codes without rounding
    offset,
    scaled,    // each number has a power of ten of its own
    spanning,  // each position has one, from below the norms that are encoded to above them
    constant,
    tiny,
    huge,
    largest,  // up to float32's limit
    denormal,
    brink,      // few positions aren't zero; their squares are near float32's largest number
    vanishing,  // few positions aren't zero; their squares are near float32's smallest numbers
    sparse,     // mostly zero, none negative
    smooth,     // few directions, and similar neighbours
    count
};

inline bool whole_numbers(Values values) {
    return values == Values::bits || values == Values::digits || values == Values::bytes || values == Values::constant;
}

// Rounds a map's values to what they are stored as.
void store(Map& map, Storage storage);

Map random_map(Random& random, Values values, const LevelShape& level, int64_t images);

// The layout a second time: channels last, cells in raster order, a cell's positions in Morton order.
Map to_cells(const PyramidShape& shape, int64_t l, const Map& map, int64_t images);

}  // namespace spadeline
