// Random features of many kinds, and a second implementation of the layout in csrc/README.md.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

#include "matcher/half.hpp"
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

// Rounds towards zero, and numbers out of range to the largest.
inline uint16_t half_of(float value) {
    const auto sign = static_cast<uint16_t>(std::signbit(value) << 15);
    const float size = std::min(std::fabs(value), 65504.0f);
    if (size < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(size * 0x1p24f));
    return static_cast<uint16_t>(sign | ((std::bit_cast<uint32_t>(size) >> 13) - (112u << 10)));
}

inline void store(Map& map, Storage storage) {
    if (storage == Storage::float32) return;
    for (float& value : map.values) {
        map.halves.push_back(half_of(value));
        value = half_to_float(map.halves.back());
    }
}

inline Map random_map(Random& random, Values values, const LevelShape& level, int64_t images) {
    Map map;
    const int64_t plane = level.height * level.width;
    std::vector<double> span(images * plane, 1);           // each position's own
    const auto sizes = [&](int64_t least, int64_t most) {  // powers of two
        for (double& size : span)
            size = random.one_in(3) ? std::ldexp(1, static_cast<int>(least + random.below(most - least + 1))) : 0;
    };
    if (values == Values::spanning)
        for (double& size : span) size = std::pow(10.0, static_cast<double>(random.below(32) - 14));
    if (values == Values::brink) sizes(60, 66);
    if (values == Values::vanishing) sizes(-82, -55);
    for (int64_t i = 0; i < images * level.channels; ++i) {
        const double along = random.normal(), across = random.normal();
        for (int64_t p = 0; p < plane; ++p) {
            double value = random.normal();
            switch (values) {
                case Values::bits:
                    value = static_cast<double>(random.below(2));
                    break;
                case Values::digits:
                    value = static_cast<double>(random.below(7) - 3);
                    break;
                case Values::bytes:
                    value = static_cast<double>(random.below(255) - 127);
                    break;
                case Values::offset:
                    value += 100;
                    break;
                case Values::scaled:
                    value *= std::pow(10.0, static_cast<double>(random.below(7) - 3));
                    break;
                case Values::spanning:
                case Values::brink:
                case Values::vanishing:
                    value *= span[i / level.channels * plane + p];
                    break;
                case Values::constant:
                    value = 1;
                    break;
                case Values::tiny:
                    value *= 1e-20;
                    break;
                case Values::huge:
                    value *= 1e20;
                    break;
                case Values::largest:
                    value = (2 * random.uniform() - 1) * 3.4e38;
                    break;
                case Values::denormal:
                    value *= 1e-40;
                    break;
                case Values::sparse:
                    value = std::max(0.0, value - 1);
                    break;
                case Values::smooth:
                    value = std::sin(along + 0.1 * static_cast<double>(p / level.width)) +
                            std::cos(across + 0.1 * static_cast<double>(p % level.width)) + 0.02 * value;
                    break;
                default:
                    break;
            }
            map.values.push_back(static_cast<float>(value));
        }
    }
    return map;
}

// The layout a second time: channels last, cells in raster order, a cell's positions in Morton order.
inline Map to_cells(const PyramidShape& shape, int64_t l, const Map& map, int64_t images) {
    const LevelShape& level = shape.levels()[l];
    const int depth = shape.depth() - level.shift;
    Map cells;
    cells.values.resize(images * shape.positions(l) * level.channels);
    cells.halves.resize(map.halves.empty() ? 0 : cells.values.size());
    for (int64_t n = 0; n < images; ++n)
        for (int64_t y = 0; y < level.height; ++y)
            for (int64_t x = 0; x < level.width; ++x) {
                int64_t morton = 0;
                for (int bit = 0; bit < depth; ++bit)
                    morton |= ((y >> bit & 1) << (2 * bit + 1)) | ((x >> bit & 1) << (2 * bit));
                const int64_t cell = (y >> depth) * shape.cell_columns() + (x >> depth);
                const int64_t position = n * shape.positions(l) + (cell << (2 * depth)) + morton;
                for (int64_t c = 0; c < level.channels; ++c) {
                    const int64_t from = ((n * level.channels + c) * level.height + y) * level.width + x;
                    cells.values[position * level.channels + c] = map.values[from];
                    if (!map.halves.empty()) cells.halves[position * level.channels + c] = map.halves[from];
                }
            }
    return cells;
}

}  // namespace spadeline
