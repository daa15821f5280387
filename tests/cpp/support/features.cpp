#include "support/features.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "matcher/half.hpp"

namespace spadeline {

namespace {

// Rounds towards zero, and numbers out of range to the largest.
uint16_t half_of(float value) {
    const auto sign = static_cast<uint16_t>(std::signbit(value) << 15);
    const float size = std::min(std::fabs(value), 65504.0f);
    if (size < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(size * 0x1p24f));
    return static_cast<uint16_t>(sign | ((std::bit_cast<uint32_t>(size) >> 13) - (112u << 10)));
}

}  // namespace

void store(Map& map, Storage storage) {
    if (storage == Storage::float32) return;
    for (float& value : map.values) {
        map.halves.push_back(half_of(value));
        value = half_to_float(map.halves.back());
    }
}

Map random_map(Random& random, Values values, const LevelShape& level, int64_t images) {
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

Map to_cells(const PyramidShape& shape, int64_t l, const Map& map, int64_t images) {
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
