// How a query's features become rows of channels, and codes: see Search.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "matcher/half.hpp"
#include "matcher/search.hpp"

namespace spadeline {
namespace {

// Positions whose features are copied at a time: a cell's at the finest of three levels.
constexpr int64_t kGathered = 16;
// Features are fetched so many channels ahead. Channels lie a whole plane apart, which the processor doesn't foresee.
constexpr int64_t kChannelsAhead = 16;

using Four = float __attribute__((vector_size(16)));

// The four floats data[at[0]] to data[at[3]]. Where they lie in a row two by two, two are loaded at once.
template <int kRun>
Four load_four(const float* data, const int64_t* at) {
    Four four;
    for (int i = 0; i < 4; i += kRun)
        std::memcpy(reinterpret_cast<float*>(&four) + i, data + at[i], kRun * sizeof(float));
    return four;
}

// Copies `channels`, a multiple of 4, of kGathered positions, `plane` apart, to rows of channels: four channels of four
// positions at a time, which are transposed in registers.
template <int kRun>
void gather_whole(const float* data, int64_t plane, const int64_t* at, int64_t channels, float* rows) {
    for (int64_t c = 0; c < channels; c += 4, data += 4 * plane) {
        for (int64_t i = 0; i < kGathered; i += 4) {
            for (int k = 0; k < 4; ++k) {
                __builtin_prefetch(data + (kChannelsAhead + k) * plane + at[i]);
                __builtin_prefetch(data + (kChannelsAhead + k) * plane + at[i + 2]);
            }
            const Four a = load_four<kRun>(data, at + i), b = load_four<kRun>(data + plane, at + i);
            const Four d = load_four<kRun>(data + 2 * plane, at + i), e = load_four<kRun>(data + 3 * plane, at + i);
            const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), de = __builtin_shufflevector(d, e, 0, 4, 1, 5);
            const Four ab_2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const Four de_2 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
            const Four turned[4] = {
                __builtin_shufflevector(ab, de, 0, 1, 4, 5), __builtin_shufflevector(ab, de, 2, 3, 6, 7),
                __builtin_shufflevector(ab_2, de_2, 0, 1, 4, 5), __builtin_shufflevector(ab_2, de_2, 2, 3, 6, 7)};
            for (int k = 0; k < 4; ++k) std::memcpy(rows + (i + k) * channels + c, &turned[k], sizeof turned[k]);
        }
    }
}

// Whether the positions lie in a row two by two.
bool in_pairs(const int64_t* at) {
    for (int64_t i = 0; i < kGathered; i += 2)
        if (at[i + 1] != at[i] + 1) return false;
    return true;
}

}  // namespace

// Turns one level's features into rows of channels, in cells [first_cell, last_cell).
void Search::gather(int64_t l, int64_t first_cell, int64_t last_cell) {
    const int64_t block = task_.level[l].block, last = last_cell * block;
    for (int64_t i = first_cell * block; i < last; i += kGathered)
        gather(request_.levels[l], l, i, std::min(i + kGathered, last));
}

// Turns one level's rows of channels into codes, in cells [first_cell, last_cell).
void Search::encode(int worker, int64_t l, int64_t first_cell, int64_t last_cell) {
    const LevelTask& level = task_.level[l];
    const int64_t first = first_cell * level.block, count = (last_cell - first_cell) * level.block;
    const auto encode_as = [&](const LevelEncoder* encoder, const CodeRows& rows) {
        if (!encoder) return;
        const Codebook& book = encoder->book();
        model_.kernels.encode(book, level.query + first * level.channels, count,
                              {rows.codes + first * book.dims, rows.terms + first * kTerms, rows.sums + first},
                              scratch_[worker].data());
    };
    encode_as(model_.projected[l].get(), level.projected.query);
    encode_as(model_.rotated[l].get(), level.rotated.query);
    if (l == 0) std::fill_n(coded_.begin() + first_cell, last_cell - first_cell, uint8_t{1});
}

// Copies one level's features of positions [first, last), at most kGathered, channel by channel: a channel's positions
// lie close to each other, a position's channels don't.
void Search::gather(const QueryLevel& query, int64_t l, int64_t first, int64_t last) {
    const LevelShape& level = model_.shape.levels()[l];
    const int64_t plane = level.height * level.width, count = last - first;
    const auto* raster = model_.shape.raster(l).data() + first;
    float* rows = features_[l].data() + first * level.channels;
    const bool whole = std::none_of(raster, raster + count, [](int64_t at) { return at < 0; });
    // One float at a time.
    const auto copy = [&](const auto* data, const auto& value) {
        for (int64_t c = 0; c < level.channels; ++c, data += plane)
            for (int64_t i = 0; i < count; ++i) {
                if (i % 2 == 0 && raster[i] >= 0) __builtin_prefetch(data + kChannelsAhead * plane + raster[i]);
                rows[i * level.channels + c] = raster[i] < 0 ? 0.0f : value(data[raster[i]]);
            }
    };
    if (query.storage == Storage::float16) {
        copy(static_cast<const uint16_t*>(query.data), [](uint16_t half) { return half_to_float(half); });
    } else if (whole && count == kGathered && level.channels % 4 == 0) {
        const auto run = in_pairs(raster) ? gather_whole<2> : gather_whole<1>;
        run(static_cast<const float*>(query.data), plane, raster, level.channels, rows);
    } else {
        copy(static_cast<const float*>(query.data), [](float value) { return value; });
    }
    uint32_t special = 0;  // whether an exponent is all ones: NaN or infinity; found without a branch
    for (int64_t i = 0; i < count * level.channels; ++i)
        special |= (std::bit_cast<uint32_t>(rows[i]) & 0x7f800000u) == 0x7f800000u;
    if (!special) return;
    const float* bad = std::find_if_not(rows, rows + count * level.channels, [](float v) { return std::isfinite(v); });
    const int64_t i = (bad - rows) / level.channels;
    throw NotFinite{l, (bad - rows) % level.channels, raster[i] / level.width, raster[i] % level.width};
}

}  // namespace spadeline
