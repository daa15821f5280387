// Bilinear upsampling on the dense path: Dense's members for it.
//
// An upsampled feature is a weighted mean of four coarse ones, on both sides, so a product of two of them is a weighted
// sum of sixteen products at the coarse resolution. Those are made once per image, then interpolated: on the query's
// side per panel and coarse gallery row, on the gallery's side per block of finest rows. One image is one chunk.
#pragma once

#include "matcher/cpu/dense.hpp"

namespace spadeline {

template <class Op>
void Dense<Op>::match_finest_bilinear() {
    const Level& finest = level_[0];
    for (int64_t q = 0; q < finest.query_count; q += kPanel) {
        const int64_t columns = finest.query_count - q < kPanel ? finest.query_count - q : kPanel;
        interpolate_queries(q, columns);
        for (int64_t first = 0; first < finest.row_count; first += kBaseRows) {
            const int64_t last = first + kBaseRows < finest.row_count ? first + kBaseRows : finest.row_count;
            interpolate_gallery(q, first, last);
            match_rows(q, columns, first, last, [&](int64_t row, int64_t column) {
                return Op::load(base_ + (row - first) * kPanel + (column - q));
            });
        }
    }
}

// Every coarse gallery row's products with the panel's queries, upsampled on the query's side.
template <class Op>
void Dense<Op>::interpolate_queries(int64_t q, int64_t columns) {
    float* out = interpolated_;
    for (int l = 1; l < task_.level_count; ++l) {
        const Level& level = level_[l];
        int32_t column[4][kPanel] = {};
        float weight[4][kPanel] = {};
        for (int64_t j = 0; j < columns; ++j) {
            const Taps& taps = task_.level[l].taps[level_[0].query_first + q + j];
            for (int t = 0; t < 4 && wanted(q + j); ++t) {
                column[t][j] = taps.position[t] - static_cast<int32_t>(level.query_first);
                weight[t][j] = taps.weight[t];
            }
        }
        for (int64_t row = 0; row < level.row_count; ++row, out += kPanel) {
            const float* products = level.products + row * level.columns;
            for (int64_t j = 0; j < kPanel; ++j)
                out[j] = weight[0][j] * products[column[0][j]] + weight[1][j] * products[column[1][j]] +
                         weight[2][j] * products[column[2][j]] + weight[3][j] * products[column[3][j]];
        }
    }
}

// The sums that the finest rows [first, last) start from: all coarser levels, upsampled on the gallery's side.
template <class Op>
void Dense<Op>::interpolate_gallery(int64_t q, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        float* base = base_ + (row - first) * kPanel;
        for (int64_t j = 0; j < kPanel; ++j) base[j] = 0;
        if (task_.raster[row] < 0) continue;  // dropped by decide; its taps are undefined
        const float* coarse = interpolated_;
        for (int l = 1; l < task_.level_count; coarse += level_[l].row_count * kPanel, ++l) {
            const Taps& taps = task_.level[l].taps[row];
            for (int t = 0; t < 4; ++t) {
                const float* from = coarse + taps.position[t] * kPanel;
                for (int64_t j = 0; j < kPanel; ++j) base[j] += taps.weight[t] * from[j];
            }
        }
        if (task_.window < 0) continue;
        for (int64_t j = 0; j < kPanel; ++j)
            if (!within_window(share_.first_cell + (q + j) / level_[0].block, row / level_[0].block))
                base[j] = __builtin_inff();
    }
}

// |upsampled feature|^2 at a finest position; `magnitude` gets the taps' weighted squared norms, which it can't exceed.
template <class Op>
double Dense<Op>::interpolated_norm(int l, int64_t position, const float* rows, double& magnitude) {
    magnitude = 0;
    if (task_.raster[position] < 0) return 0;
    const Taps& taps = task_.level[l].taps[position];
    double norm = 0;
    for (int64_t c = 0; c < level_[l].channels; ++c) {
        double value = 0;
        for (int t = 0; t < 4; ++t) {
            const double weight = taps.weight[t], tap = rows[taps.position[t] * level_[l].channels + c];
            value += weight * tap;
            magnitude += weight * tap * tap;
        }
        norm += value * value;
    }
    return norm;
}

template <class Op>
double Dense<Op>::interpolated_distance(int l, int64_t query, int64_t row) const {
    const Taps &a = task_.level[l].taps[query], &b = task_.level[l].taps[row];
    const int64_t channels = level_[l].channels;
    double sum = 0;
    for (int64_t c = 0; c < channels; ++c) {
        double difference = 0;
        for (int t = 0; t < 4; ++t)
            difference += static_cast<double>(a.weight[t]) * task_.level[l].query[a.position[t] * channels + c] -
                          static_cast<double>(b.weight[t]) * level_[l].rows[b.position[t] * channels + c];
        sum += difference * difference;
    }
    return sum;
}

}  // namespace spadeline
