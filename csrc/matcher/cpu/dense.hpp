// The dense path: every pair of query and gallery positions, each level's products at that level's own resolution.
//
// Gallery cells are taken in chunks that stay in the second-level cache. For a chunk, from the coarsest level to the
// finest:
//   1. products of all the share's query positions with the chunk's, added to the next coarser level's (tile.hpp);
//   2. at the finest level the norms are added, which makes the sum a lower bound of the distance (exact.hpp,
//   filter_norm);
//   3. bounds that don't beat their query's kappa-th distance so far are dropped in registers;
//   4. the distances of the few others are computed in float64, which decides.
// This holds for nearest upsampling, where levels are nested. For bilinear upsampling bilinear.hpp replaces the sums of
// step 1. The coarse levels rule nothing out on this path.
#pragma once

#include <cstdint>

#include "matcher/cpu/exact.hpp"
#include "matcher/cpu/tile.hpp"
#include "matcher/cpu/workspace.hpp"
#include "matcher/match_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

// Gallery bytes per chunk: less than a quarter of a server core's second-level cache, 2 MB, and less than all of an
// edge core's, 512 KB.
inline constexpr int64_t kChunkBytes = 448 * 1024;

template <class Op>
class Dense {
 public:
    static int64_t share_floats(const MatchTask& task, int64_t first_cell, int64_t cell_count) {
        Dense dense(task, {first_cell, cell_count, nullptr});
        return dense.lay_out(nullptr);
    }

    static void match(const MatchTask& task, const Share& share) {
        Dense dense(task, share);
        dense.lay_out(share.workspace);
        dense.prepare_query();
        for (int64_t i = 0; i < task.image_count; ++i)
            for (int64_t cell = 0; cell < task.cells; cell += dense.chunk_cells_) {
                if (task.expiry.passed()) return;
                dense.match_chunk(task.image_ids[i], cell);
            }
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int64_t kPanel = kWidth<Op>;
    // Gallery rows whose interpolated sums are made at once (bilinear). A panel is up to 48 floats wide: they take 12
    // KB of the first-level cache.
    static constexpr int64_t kBaseRows = 64;

    struct Level {
        int64_t channels, block;
        int64_t query_first, query_count;  // positions of the query that this share multiplies with
        int64_t columns;                   // query_count in whole panels
        float* panels;                     // (columns / kPanel, channels, kPanel), times -2
        float* products;                   // (chunk rows, columns), coarser levels only
        float* widened;                    // the chunk in float32, for float16 galleries only
        const float* rows;                 // the chunk as the tiles read it
        int64_t row_count;
    };

    Dense(const MatchTask& task, const Share& share) : task_(task), share_(share) {
        int64_t cell_bytes = 0;
        for (int l = 0; l < task.level_count; ++l)
            cell_bytes += task.level[l].block * task.level[l].channels * static_cast<int64_t>(sizeof(float));
        chunk_cells_ = kChunkBytes / cell_bytes;
        if (chunk_cells_ < 1) chunk_cells_ = 1;
        if (chunk_cells_ > task.cells || task.bilinear)
            chunk_cells_ = task.cells;  // a tap may lie in any chunk, so there is one
        for (int l = 0; l < task.level_count; ++l) {
            Level& level = level_[l];
            level.channels = task.level[l].channels;
            level.block = task.level[l].block;
            int64_t first = share.first_cell, last = share.first_cell + share.cell_count;
            if (task.bilinear && l > 0) {  // taps reach one cell beyond the share
                first = first > task.cell_columns + 1 ? first - task.cell_columns - 1 : 0;
                last = last + task.cell_columns + 1 < task.cells ? last + task.cell_columns + 1 : task.cells;
            }
            level.query_first = first * level.block;
            level.query_count = (last - first) * level.block;
            level.columns = round_up(level.query_count, kPanel);
        }
    }

    // Places all buffers one behind the other and returns the floats that they take.
    int64_t lay_out(float* base) {
        Workspace<Op> workspace(base);
        const auto take = [&](int64_t floats) { return workspace.take(floats); };
        for (int l = 0; l < task_.level_count; ++l) {
            Level& level = level_[l];
            const int64_t rows = chunk_cells_ * level.block;
            level.panels = take(level.columns * level.channels);
            level.products = l > 0 ? take(rows * level.columns) : nullptr;
            level.widened = task_.storage == Storage::float16 ? take(rows * level.channels) : nullptr;
        }
        query_norms_ = take(level_[0].columns);
        thresholds_ = take(level_[0].columns);
        gallery_norms_ = take(chunk_cells_ * level_[0].block);
        if (task_.bilinear) {
            int64_t coarse_rows = 0;
            for (int l = 1; l < task_.level_count; ++l) {
                coarse_rows += task_.level[l].positions;
                tap_norms_[l] = reinterpret_cast<double*>(take(2 * task_.level[l].positions));
            }
            interpolated_ = take(coarse_rows * kPanel);
            base_ = take(kBaseRows * kPanel);
        }
        return workspace.floats();
    }

    void prepare_query() {
        for (int l = 0; l < task_.level_count; ++l) {
            const Level& level = level_[l];
            pack_panels<Op>(task_.level[l].query + level.query_first * level.channels, level.query_count,
                            level.channels, static_cast<float>(-2 * task_.level[l].weight), level.panels);
        }
        const float* queries[kMaxLevels];
        for (int l = 0; l < task_.level_count; ++l) queries[l] = task_.level[l].query;
        norms(queries, level_[0].query_first, level_[0].query_count, query_norms_);
        for (int64_t q = 0; q < level_[0].columns; ++q) {  // a position that isn't scored lets no pair pass
            thresholds_[q] = wanted(q) ? threshold(q) : -__builtin_inff();
        }
        for (int64_t q = level_[0].query_count; q < level_[0].columns; ++q) query_norms_[q] = 0;
    }

    void match_chunk(int64_t image, int64_t first_cell) {
        image_ = image;
        chunk_first_ = first_cell;
        const int64_t count = first_cell + chunk_cells_ < task_.cells ? chunk_cells_ : task_.cells - first_cell;
        if (!rows_within_window(0, share_.cell_count, first_cell, count)) return;
        const float* chunk[kMaxLevels];
        for (int l = 0; l < task_.level_count; ++l) chunk[l] = load_rows(l, count);
        norms(chunk, 0, level_[0].row_count, gallery_norms_);
        for (int l = task_.level_count - 1; l > 0; --l) multiply(l);
        if (task_.bilinear) {
            match_finest_bilinear();
        } else {
            for (int64_t q = 0; q < level_[0].query_count; q += kPanel) match_finest(q);
        }
    }

    const float* load_rows(int l, int64_t cell_count) {
        Level& level = level_[l];
        const int64_t first = (image_ * task_.cells + chunk_first_) * level.block * level.channels;
        level.row_count = cell_count * level.block;
        if (task_.storage == Storage::float16) {
            Op::widen(static_cast<const uint16_t*>(task_.level[l].gallery) + first, level.widened,
                      level.row_count * level.channels);
            return level.rows = level.widened;
        }
        return level.rows = static_cast<const float*>(task_.level[l].gallery) + first;
    }

    // Filter norms of finest positions [first, first + count), all levels together.
    void norms(const float* const* rows, int64_t first, int64_t count, float* out) {
        int64_t channels = 0;
        for (int l = 0; l < task_.level_count; ++l) channels += level_[l].channels;
        Norms level[kMaxLevels];
        for (int l = 1; l < task_.level_count && task_.bilinear; ++l) measure_taps(l, rows[l], tap_norms_[l]);
        for (int64_t i = first; i < first + count; ++i) {
            Norms sum{0, 0, 0};
            for (int l = 0; l < task_.level_count; ++l) {
                const int halvings = 2 * task_.level[l].shift;
                if (task_.bilinear && l > 0) {
                    level[l] = interpolated_norms(l, i, rows[l], tap_norms_[l]);
                } else if (i == first || (i & ((int64_t{1} << halvings) - 1)) == 0) {
                    const double norm = squared_distance<Op>(rows[l] + (i >> halvings) * level_[l].channels, nullptr,
                                                             level_[l].channels);
                    level[l] = {norm, norm, norm};
                }
                sum.norm += task_.level[l].weight * level[l].norm;
                sum.magnitude += task_.level[l].weight * level[l].magnitude;
                sum.largest += task_.level[l].weight * level[l].largest;
            }
            out[i - first] = filter_norm<Op>(sum, channels);
        }
    }

    // Step 1 at a coarser level: adds this level's products to the next coarser level's.
    void multiply(int l) {
        Level& level = level_[l];
        const bool coarsest = task_.bilinear || l == task_.level_count - 1;
        const int halvings = coarsest ? 0 : task_.level[l + 1].shift - task_.level[l].shift;
        const auto store = [&](int64_t row, int64_t column, const Reg* sums, int rows) {
            for (int g = 0; g < rows; ++g) Op::store(level.products + (row + g) * level.columns + column, sums[g]);
        };
        for (int64_t q = 0; q < level.query_count; q += kPanel) {
            const float* panel = level.panels + q * level.channels;
            const int64_t columns = level.query_count - q < kPanel ? level.query_count - q : kPanel;
            if (coarsest) {
                panel_tiles<Op>(
                    panel, columns, q, level.rows, level.channels, 0, level.row_count,
                    [](int64_t, int64_t) { return Op::broadcast_value(0.0f); }, store);
            } else {
                panel_tiles<Op>(
                    panel, columns, q, level.rows, level.channels, 0, level.row_count,
                    [&](int64_t row, int64_t column) { return coarser(l, halvings, row, column); }, store);
            }
        }
        if (l == task_.level_count - 1 && !task_.bilinear && task_.window >= 0) close_window(level);
    }

    // The next coarser level's products for the lanes from `column` on.
    Reg coarser(int l, int halvings, int64_t row, int64_t column) const {
        const Level& above = level_[l + 1];
        return Op::expand(above.products + (row >> (2 * halvings)) * above.columns, column, halvings);
    }

    // Pairs of cells outside the window get an infinite sum, which stays infinite at every finer level.
    void close_window(Level& coarsest) {
        for (int64_t row = 0; row < coarsest.row_count; ++row)
            for (int64_t q = 0; q < coarsest.query_count; ++q)
                if (!within_window(cell_of(q), chunk_first_ + row))
                    coarsest.products[row * coarsest.columns + q] = __builtin_inff();
    }

    bool within_window(int64_t query_cell, int64_t gallery_cell) const {
        const int64_t dy = query_cell / task_.cell_columns - gallery_cell / task_.cell_columns;
        const int64_t dx = query_cell % task_.cell_columns - gallery_cell % task_.cell_columns;
        return task_.window < 0 || ((dy < 0 ? -dy : dy) <= task_.window && (dx < 0 ? -dx : dx) <= task_.window);
    }

    // Whether some of the share's cells [first, first + count) lie within the window of some of the gallery's.
    bool rows_within_window(int64_t first, int64_t count, int64_t gallery_first, int64_t gallery_count) const {
        if (task_.window < 0) return true;
        const int64_t columns = task_.cell_columns;
        const int64_t top = cell_of(first) / columns, bottom = cell_of(first + count - 1) / columns;
        const int64_t gallery_top = gallery_first / columns;
        const int64_t gallery_bottom = (gallery_first + gallery_count - 1) / columns;
        return gallery_top <= bottom + task_.window && top <= gallery_bottom + task_.window;
    }

    // Whether any of a panel's queries may match any of the chunk's finest rows [first, last).
    bool panel_reaches(int64_t q, int64_t columns, int64_t first, int64_t last) const {
        const int64_t block = level_[0].block, cell = q / block, row_cell = first / block;
        return rows_within_window(cell, (q + columns - 1) / block - cell + 1, chunk_first_ + row_cell,
                                  (last - 1) / block - row_cell + 1);
    }

    // The query image's cell that is the share's i-th.
    int64_t cell_of(int64_t i) const {
        return task_.query_cells ? task_.query_cells[share_.first_cell + i] : share_.first_cell + i;
    }

    // The query image's finest position that is the share's q-th.
    int64_t place(int64_t q) const { return cell_of(q / level_[0].block) * level_[0].block + q % level_[0].block; }
    Neighbour* best_of(int64_t q) const { return task_.best + place(q) * task_.kappa; }

    // Steps 1 to 3 at the finest level for the panel of queries from q on.
    void match_finest(int64_t q) {
        const Level& finest = level_[0];
        const int64_t columns = finest.query_count - q < kPanel ? finest.query_count - q : kPanel;
        if (!panel_reaches(q, columns, 0, finest.row_count)) return;
        const bool alone = task_.level_count == 1;
        const int halvings = alone ? 0 : task_.level[1].shift;
        match_rows(q, columns, 0, finest.row_count, [&](int64_t row, int64_t column) {
            return alone ? Op::broadcast_value(0.0f) : coarser(0, halvings, row, column);
        });
    }

    template <class Base>
    void match_rows(int64_t q, int64_t columns, int64_t first, int64_t last, const Base& base) {
        const Level& finest = level_[0];
        panel_tiles<Op>(
            finest.panels + q * finest.channels, columns, q, finest.rows, finest.channels, first, last,
            [&](int64_t row, int64_t column) {
                const Reg norms = Op::add(Op::load(query_norms_ + column), Op::broadcast(gallery_norms_ + row));
                return Op::add(base(row, column), norms);
            },
            [&](int64_t row, int64_t column, const Reg* bounds, int rows) {
                const Reg threshold = Op::load(thresholds_ + column);
                uint32_t passing = 0;
                for (int g = 0; g < rows; ++g) passing |= Op::not_above(bounds[g], threshold);
                if (passing) [[unlikely]]
                    decide(row, column, bounds, rows);
            });
    }

    // Step 4: the pairs whose bound beats their query's threshold. The lowest bound comes first: neighbouring rows are
    // alike, and the threshold that one of them leaves often rules the others out.
    [[gnu::noinline]] void decide(int64_t row, int64_t column, const Reg* bounds, int rows) {
        float bound[Op::rows][Op::lanes];
        for (int g = 0; g < rows; ++g) Op::store(bound[g], bounds[g]);
        for (int lane = 0; lane < Op::lanes; ++lane) {
            const int64_t q = column + lane;
            uint32_t open = 0;
            for (int g = 0; g < rows; ++g) open |= static_cast<uint32_t>(!(bound[g][lane] > thresholds_[q])) << g;
            if (open == 0 || !wanted(q)) continue;
            while (open) {
                int lowest = __builtin_ctz(open);
                for (int g = lowest + 1; g < rows; ++g)
                    if (open >> g & 1 && !(bound[g][lane] >= bound[lowest][lane])) lowest = g;
                open &= ~(1u << lowest);
                if (!(bound[lowest][lane] > thresholds_[q])) consider(q, row + lowest);
            }
        }
    }

    void consider(int64_t q, int64_t row) {
        const int64_t gallery = chunk_first_ * level_[0].block + row;
        if (task_.raster[gallery] < 0) return;
        if (!within_window(cell_of(q / level_[0].block), gallery / level_[0].block)) return;
        Neighbour* best = best_of(q);
        insert<Op>(best, task_.kappa,
                   {distance(level_[0].query_first + q, row), static_cast<int32_t>(image_),
                    static_cast<int32_t>(task_.raster[gallery])});
        thresholds_[q] = threshold(q);
    }

    // Pairs beyond it aren't among the kappa nearest, or aren't asked for.
    float threshold(int64_t q) const {
        const float found = threshold_of<Op>(best_of(q)[task_.kappa - 1].distance);
        return task_.caps && task_.caps[place(q)] < found ? task_.caps[place(q)] : found;
    }

    bool wanted(int64_t q) const { return q < level_[0].query_count && task_.scored[place(q)]; }

    double distance(int64_t query, int64_t row) const {
        double sum = 0;
        for (int l = 0; l < task_.level_count; ++l) {
            const int halvings = 2 * task_.level[l].shift;
            const int64_t channels = level_[l].channels;
            sum += task_.level[l].weight *
                   (task_.bilinear && l > 0
                        ? interpolated_distance(l, query, row)
                        : squared_distance<Op>(task_.level[l].query + (query >> halvings) * channels,
                                               level_[l].rows + (row >> halvings) * channels, channels));
        }
        return sum;
    }

    // bilinear.hpp
    void match_finest_bilinear();
    void interpolate_queries(int64_t q, int64_t columns);
    void interpolate_gallery(int64_t q, int64_t first, int64_t last);
    void close_window(float* base, int64_t q, int64_t gallery_cell) const;
    void measure_taps(int l, const float* rows, double* out) const;
    Norms interpolated_norms(int l, int64_t position, const float* rows, const double* tap_norms) const;
    double interpolated_distance(int l, int64_t query, int64_t row) const;

    const MatchTask& task_;
    const Share share_;
    Level level_[kMaxLevels];
    int64_t chunk_cells_, chunk_first_ = 0, image_ = 0;
    float *query_norms_, *gallery_norms_, *thresholds_;
    float *interpolated_, *base_;    // bilinear: (coarse rows, kPanel), (kBaseRows, kPanel)
    double* tap_norms_[kMaxLevels];  // bilinear: (positions) a coarser level
};

}  // namespace spadeline

#include "matcher/cpu/bilinear.hpp"
