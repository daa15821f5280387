// The register tile: products of `rows` gallery vectors with `vectors * lanes` query vectors, all channels.
//
//     sum[g][q] = init(g, q) + sum over channels of panel[channel][q] * gallery[g][channel]
//
// The query is packed channel-major in panels of kWidth queries, multiplied by -2. The gallery is read as it lies. Each
// broadcast gallery value is used by `vectors` multiply-adds, so that multiply-adds limit the loop, not loads. `emit`
// gets the sums while they are in registers: nothing of the distance matrix's size is ever written.
#pragma once

#include <cstdint>

#include "matcher/sizes.hpp"

namespace spadeline {

template <class Op>
inline constexpr int kWidth = Op::lanes * Op::vectors;

// Packs vectors into panels, channel-major, times `factor`; the last panel is filled up with zeros.
template <class Op>
inline void pack_panels(const float* rows, int64_t count, int64_t channels, float factor, float* panels) {
    constexpr int64_t width = kWidth<Op>;
    for (int64_t q = 0; q < round_up(count, width); ++q) {
        float* panel = panels + q / width * width * channels + q % width;
        for (int64_t c = 0; c < channels; ++c) panel[c * width] = q < count ? factor * rows[q * channels + c] : 0.0f;
    }
}

template <class Op, int V, int G, class Init, class Emit>
inline void tile(const float* panel, const float* gallery, int64_t channels, int64_t row, int64_t column,
                 const Init& init, const Emit& emit) {
    typename Op::Reg sum[G][V];
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g)
#pragma GCC unroll 3
        for (int v = 0; v < V; ++v) sum[g][v] = init(row + g, column + v * Op::lanes);
    const float* rows[G];
    for (int g = 0; g < G; ++g) rows[g] = gallery + (row + g) * channels;
    for (int64_t c = 0; c < channels; ++c, panel += kWidth<Op>) {
        typename Op::Reg query[V];
        for (int v = 0; v < V; ++v) query[v] = Op::load(panel + v * Op::lanes);
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) {
            const typename Op::Reg value = Op::broadcast(rows[g] + c);
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) sum[g][v] = Op::fma(query[v], value, sum[g][v]);
        }
    }
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
        typename Op::Reg lanes[G];
#pragma GCC unroll 8
        for (int g = 0; g < G; ++g) lanes[g] = sum[g][v];
        emit(row, column + v * Op::lanes, lanes, G);
    }
}

// Multiplies one panel's first `columns` queries with gallery rows [first, last). Columns are rounded up to whole
// registers.
template <class Op, class Init, class Emit>
inline void panel_tiles(const float* panel, int64_t columns, int64_t column, const float* gallery, int64_t channels,
                        int64_t first, int64_t last, const Init& init, const Emit& emit) {
    int64_t row = first;
    if (columns > kWidth<Op> - Op::lanes) {
        for (; row + Op::rows <= last; row += Op::rows)
            tile<Op, Op::vectors, Op::rows>(panel, gallery, channels, row, column, init, emit);
        for (; row < last; ++row) tile<Op, Op::vectors, 1>(panel, gallery, channels, row, column, init, emit);
        return;
    }
    for (; row + Op::rows <= last; row += Op::rows)
        for (int64_t j = 0; j < columns; j += Op::lanes)
            tile<Op, 1, Op::rows>(panel + j, gallery, channels, row, column + j, init, emit);
    for (; row < last; ++row)
        for (int64_t j = 0; j < columns; j += Op::lanes)
            tile<Op, 1, 1>(panel + j, gallery, channels, row, column + j, init, emit);
}

}  // namespace spadeline
