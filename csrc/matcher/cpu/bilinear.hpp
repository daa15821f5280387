// Bilinear upsampling on the dense path. These are members of Dense.
//
// An upsampled feature is a weighted mean of four coarse ones, on both sides, so a product of two of them is a weighted
// sum of sixteen products at the coarse resolution. Those products are made once per image, then interpolated: on the
// query's side for each panel and coarse gallery row, on the gallery's side for each block of finest rows. An image is
// a chunk.
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
            if (!panel_reaches(q, columns, first, last)) continue;
            interpolate_gallery(q, first, last);
            match_rows(q, columns, first, last, [&](int64_t row, int64_t column) {
                return Op::load(base_ + (row - first) * kPanel + (column - q));
            });
        }
    }
}

// Upsamples every coarse gallery row's products with the panel's queries, on the query's side.
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

// Makes the sums that the finest rows [first, last) start from: those of all coarser levels, upsampled on the gallery's
// side.
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
        if (task_.window >= 0) close_window(base, q, row / level_[0].block);
    }
}

// Makes a row's sums with the panel's queries outside the window infinite, cell by cell.
template <class Op>
void Dense<Op>::close_window(float* base, int64_t q, int64_t gallery_cell) const {
    const int64_t block = level_[0].block;
    for (int64_t j = 0; j < kPanel;) {
        const int64_t cell = (q + j) / block, end = (cell + 1) * block - q;
        const bool open = within_window(cell_of(cell), gallery_cell);
        for (; j < end && j < kPanel; ++j)
            if (!open) base[j] = __builtin_inff();
    }
}

// Squared norms of every position of a coarser level. The slack of an upsampled feature is made of those of its taps.
// They also say what may overflow, since products exist before they are multiplied by the taps' weights.
template <class Op>
void Dense<Op>::measure_taps(int l, const float* rows, double* out) const {
    for (int64_t i = 0; i < task_.level[l].positions; ++i)
        out[i] = squared_distance<Op>(rows + i * level_[l].channels, nullptr, level_[l].channels);
}

// At a finest position: |upsampled feature|^2; the taps' mean squared norm, which that can't exceed; the taps' largest.
template <class Op>
Norms Dense<Op>::interpolated_norms(int l, int64_t position, const float* rows, const double* tap_norms) const {
    Norms norms{0, 0, 0};
    if (task_.raster[position] < 0) return norms;
    const Taps& taps = task_.level[l].taps[position];
    for (int t = 0; t < 4; ++t) {
        const double norm = tap_norms[taps.position[t]];
        norms.magnitude += static_cast<double>(taps.weight[t]) * norm;
        norms.largest = norm > norms.largest ? norm : norms.largest;
    }
    norms.norm = interpolated_sum<Op>(taps, rows, nullptr, nullptr, level_[l].channels);
    return norms;
}

template <class Op>
double Dense<Op>::interpolated_distance(int l, int64_t query, int64_t row) const {
    const Taps &a = task_.level[l].taps[query], &b = task_.level[l].taps[row];
    return interpolated_sum<Op>(a, task_.level[l].query, &b, level_[l].rows, level_[l].channels);
}

}  // namespace spadeline
