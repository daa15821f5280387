// The dense path: pairs of query and gallery positions as they lie, each level's products at that level's own
// resolution.
//
// Gallery cells are taken in chunks that stay in the second-level cache. For a chunk, from the coarsest level to the
// finest:
//   1. products of all the share's query positions with the chunk's, added to the next coarser level's (tile.hpp);
//   2. at the finest level the norms are added, which makes the sum a lower bound of the distance (exact.hpp,
//   filter_norm);
//   3. bounds that don't beat their query's kappa-th distance so far are dropped in registers;
//   4. the distances of the few others are computed in float64, which decides.
// This holds for nearest upsampling, where levels are nested. For bilinear upsampling bilinear.hpp replaces the sums of
// step 1. Where the gallery has codes, dense_codes.hpp replaces all levels' products but the coarsest one's, and coarse
// levels rule pairs of finer ones out; without codes they rule nothing out.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"
#include "matcher/cpu/exact.hpp"
#include "matcher/cpu/tile.hpp"
#include "matcher/cpu/workspace.hpp"
#include "matcher/match_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

// Gallery bytes per chunk: less than a quarter of a server core's second-level cache, 2 MB, and less than all of an
// edge core's, 512 KB.
inline constexpr int64_t kChunkBytes = 448 * 1024;

// Quads of a tile of codes: a sum for each of their rows, the queries, and one broadcast stay in registers.
template <class Op>
inline constexpr int kQuads = Op::registers >= 32 ? 4 : 3;

template <class Op>
class Dense {
 public:
    static int64_t share_floats(const MatchTask& task, int64_t first_cell, int64_t cell_count) {
        const Share share{first_cell, cell_count, nullptr, nullptr, nullptr, nullptr};
        Dense coded(task, share, has_codes(task)), plain(task, share, false);
        const int64_t floats = coded.lay_out(nullptr), others = plain.lay_out(nullptr);
        return floats > others ? floats : others;
    }

    // Codes filter as long as they rule out enough (see `flooded`), then features do.
    static bool match(const MatchTask& task, const Share& share) {
        const bool coded = has_codes(task);
        Dense first(task, share, coded);
        const int64_t step = first.chunk_cells_, chunks = ceil_div(task.cells, step), count = task.image_count * chunks;
        if (__atomic_load_n(share.next, __ATOMIC_RELAXED) >= count) return true;
        const auto take = [&] { return __atomic_fetch_add(share.next, 1, __ATOMIC_RELAXED); };
        int64_t i = take();
        if (!coded || !__atomic_load_n(share.plain, __ATOMIC_RELAXED)) {
            first.lay_out(share.workspace);
            first.prepare_query();
            for (; i < count && !first.late(); i = take()) {
                first.match_chunk(task.image_ids[i / chunks], i % chunks * step, step);
                if (first.flooded()) break;
            }
            if (first.late() || i >= count) return !first.late_;
            __atomic_store_n(share.plain, uint8_t{1}, __ATOMIC_RELAXED);
        }
        Dense plain(task, share, false);
        plain.lay_out(share.workspace);
        plain.prepare_query();
        for (; i < count && !plain.late(); i = take()) {  // beginning with the chunk that codes didn't finish
            const int64_t begin = i % chunks * step, end = begin + step < task.cells ? begin + step : task.cells;
            for (int64_t cell = begin; cell < end && !plain.late(); cell += plain.chunk_cells_)
                plain.match_chunk(task.image_ids[i / chunks], cell, end - cell);
        }
        return !plain.late_;
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int64_t kPanel = kWidth<Op>;
    // Of bounds from codes (csrc/README.md has the proof): by what thresholds, their roots and errors are raised, for
    // roundings; more than what such a bound loses to underflow; what makes a root positive, so that a product with an
    // infinite error isn't NaN; and what no distance of vectors with codes exceeds.
    static constexpr float kRaised = 1 + 0x1p-16f, kUnderflow = 0x1p-116f, kSmallestRoot = 0x1p-60f;
    static constexpr float kLargestSquare = 0x1p126f;
    // A pair in float64 takes as long as some hundred pairs by features.
    static constexpr int64_t kFirstPairs = 64, kLeastPairs = 128, kSample = 1 << 22;
    // Gallery rows whose interpolated sums are made at once (bilinear). A panel is up to 48 floats wide: they take 12
    // KB of the first-level cache.
    static constexpr int64_t kBaseRows = 64;

    // Four gallery positions' codes; weight norm - error^2, -2 weight scale, and the largest error, times sqrt(weight).
    struct Quad {
        const uint8_t* codes;
        float factor[kGroup], norm[kGroup], error;
    };
    // A level's codes of the query and the chunk, and what is made of them: see dense_codes.hpp.
    struct Coded {
        int8_t* panels;                                        // (columns / lanes, dims / 4, lanes, 4)
        float *scale, *norm, *error, *slack, *reach, *raised;  // (columns)
        int32_t* offset;                                       // (columns): what their sums are too large by
        Quad* quads;                                           // (chunk rows / kGroup)
        int32_t* open;                                         // those that aren't ruled out
        const float** bases;  // for each of them the row of the next coarser level's bounds
        float* bounds;        // (open rows, lanes), coarser levels only
        int32_t* rows;        // the open rows; likewise
    };
    // Rows of a level's bounds: of all the chunk's positions, or of those in `rows`.
    struct OpenRows {
        const float* bounds;
        int64_t stride, first_column;
        const int32_t* rows;
        int64_t count;
    };

    struct Level {
        int64_t channels, block;
        int64_t query_first, query_count;  // positions of the query that this share multiplies with
        int64_t columns;                   // query_count in whole panels
        bool multiplied;                   // whether the filter multiplies features here, not codes
        float* panels;                     // (columns / kPanel, channels, kPanel), times -2
        float* products;                   // (chunk rows, columns), coarser levels only
        float* widened;                    // the chunk in float32, or one row; for float16 galleries only
        const float* rows;                 // the chunk as the tiles read it
        int64_t row_count;
        Coded coded;
    };

    static bool has_codes(const MatchTask& task) { return !task.bilinear && task.level[0].rotated.dims > 0; }

    Dense(const MatchTask& task, const Share& share, bool coded) : task_(task), share_(share), coded_(coded) {
        int64_t cell_bytes = 0;
        for (int l = 0; l < task.level_count; ++l) {
            const LevelTask& level = task.level[l];
            level_[l].multiplied = !coded_ || (l > 0 && l == task.level_count - 1);
            cell_bytes += level.block * (level_[l].multiplied ? level.channels * static_cast<int64_t>(sizeof(float))
                                                              : record_bytes(level.rotated.dims, 1));
        }
        chunk_cells_ = kChunkBytes / cell_bytes;
        if (chunk_cells_ < 1) chunk_cells_ = 1;
        if (coded_) chunk_cells_ = round_up(chunk_cells_, group_size(task.level_count == 1));
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
            level.panels = level.multiplied ? take(level.columns * level.channels) : nullptr;
            // A register is read from any column of a row, so a register more is allocated.
            level.products = level.multiplied && l > 0 ? take(rows * level.columns + Op::lanes) : nullptr;
            level.widened =
                task_.storage == Storage::float16 ? take((level.multiplied ? rows : 1) * level.channels) : nullptr;
            if (!level.multiplied) lay_out_codes(l, workspace);
        }
        const int normed = first_normed();
        query_norms_ = take(level_[normed].columns);
        thresholds_ = take(level_[0].columns);
        gallery_norms_ = take(chunk_cells_ * level_[normed].block);
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
        const float* queries[kMaxLevels];
        for (int l = 0; l < task_.level_count; ++l) {
            const Level& level = level_[l];
            queries[l] = task_.level[l].query;
            if (level.multiplied) {
                pack_panels<Op>(task_.level[l].query + level.query_first * level.channels, level.query_count,
                                level.channels, static_cast<float>(-2 * task_.level[l].weight), level.panels);
            } else {
                pack_codes(l);
            }
        }
        const int normed = first_normed();
        const Level& level = level_[normed];
        if (level.multiplied) norms(queries, level.query_first, level.query_count, query_norms_);
        for (int64_t q = level.query_count; q < level.columns; ++q) query_norms_[q] = 0;
        for (int64_t q = 0; q < level_[0].columns; ++q)  // a position that isn't scored lets no pair pass
            set_threshold(q, wanted(q) ? found_threshold(q) : -__builtin_inff());
    }

    // Matches at most `most` cells of an image, and no more than a chunk.
    void match_chunk(int64_t image, int64_t first_cell, int64_t most) {
        image_ = image;
        chunk_first_ = first_cell;
        const int64_t left = task_.cells - first_cell < most ? task_.cells - first_cell : most;
        const int64_t count = chunk_cells_ < left ? chunk_cells_ : left;
        if (!rows_within_window(0, share_.cell_count, first_cell, count)) return;
        const float* chunk[kMaxLevels];
        for (int l = 0; l < task_.level_count; ++l) chunk[l] = load_rows(l, count);
        const Level& normed = level_[first_normed()];
        if (normed.multiplied) norms(chunk, 0, normed.row_count, gallery_norms_);
        if (coded_) return match_coded();
        for (int l = task_.level_count - 1; l > 0; --l)
            if (!multiply(l)) return;
        if (task_.bilinear) {
            match_finest_bilinear();
        } else {
            for (int64_t q = 0; q < level_[0].query_count && !late(); q += kPanel) match_finest(q);
        }
    }

    // Whether time has expired: asked after each panel of queries or register of coded ones, with a chunk.
    bool late() {
        late_ = late_ || passed(task_.expiry);
        return late_;
    }

    // The finest level whose filter adds norms, which are those of all coarser levels, too.
    int first_normed() const { return coded_ ? task_.level_count - 1 : 0; }

    // Step 1 at a coarser level: adds this level's products to the next coarser level's. Returns false if it is late.
    bool multiply(int l) {
        Level& level = level_[l];
        const bool coarsest = task_.bilinear || l == task_.level_count - 1;
        const int halvings = coarsest ? 0 : task_.level[l + 1].shift - task_.level[l].shift;
        const auto store = [&](int64_t row, int64_t column, const Reg* sums, int rows) {
            for (int g = 0; g < rows; ++g)
                Op::store(level.products + (row + g) * level.columns + column,
                          coded_ ? Op::positive(sums[g]) : sums[g]);
        };
        for (int64_t q = 0; q < level.query_count; q += kPanel) {
            if (late()) return false;
            const float* panel = level.panels + q * level.channels;
            const int64_t columns = level.query_count - q < kPanel ? level.query_count - q : kPanel;
            if (coarsest) {
                panel_tiles<Op>(
                    panel, columns, q, level.rows, level.channels, 0, level.row_count,
                    [&](int64_t row, int64_t column) {
                        return coded_ ? norms_of(row, column) : Op::broadcast_value(0.0f);
                    },
                    store);
            } else {
                panel_tiles<Op>(
                    panel, columns, q, level.rows, level.channels, 0, level.row_count,
                    [&](int64_t row, int64_t column) { return coarser(l, halvings, row, column); }, store);
            }
        }
        if (l == task_.level_count - 1 && !task_.bilinear && task_.window >= 0) close_window(level);
        return true;
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
    Neighbour* best_of(int64_t q) const { return share_.lists + q * task_.kappa; }

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

    Reg norms_of(int64_t row, int64_t column) const {
        return Op::add(Op::load(query_norms_ + column), Op::broadcast(gallery_norms_ + row));
    }

    template <class Base>
    void match_rows(int64_t q, int64_t columns, int64_t first, int64_t last, const Base& base) {
        const Level& finest = level_[0];
        panel_tiles<Op>(
            finest.panels + q * finest.channels, columns, q, finest.rows, finest.channels, first, last,
            [&](int64_t row, int64_t column) { return Op::add(base(row, column), norms_of(row, column)); },
            [&](int64_t row, int64_t column, const Reg* bounds, int rows) {
                const Reg threshold = Op::load(thresholds_ + column);
                uint32_t passing = 0;
                for (int g = 0; g < rows; ++g) passing |= Op::not_above(bounds[g], threshold);
                if (passing) [[unlikely]]
                    decide(row, column, bounds, rows);
            });
    }

    bool wanted(int64_t q) const { return q < level_[0].query_count && task_.scored[place(q)]; }

    // dense_rows.hpp
    const float* load_rows(int l, int64_t cell_count);
    void norms(const float* const* rows, int64_t first, int64_t count, float* out);
    const float* features(int l, int64_t row) const;

    // dense_decide.hpp
    bool flooded() const;
    [[gnu::noinline]] void decide(int64_t row, int64_t column, const Reg* bounds, int rows);
    void consider(int64_t q, int64_t row);
    float found_threshold(int64_t q) const;
    void set_threshold(int64_t q, float threshold);
    double distance(int64_t query, int64_t row) const;
    [[gnu::noinline]] void decide_quads(int64_t column, const int32_t* quads, int count, const Reg* bounds);

    // dense_codes.hpp
    void lay_out_codes(int l, Workspace<Op>& workspace);
    void pack_codes(int l);
    void load_codes(int l);
    void set_terms(float threshold, float norm, float error, float* raised, float* slack, float* reach);
    void set_coded_threshold(int64_t q);
    void match_coded();
    void match_positions(int l, int64_t column, const OpenRows& above);
    void lower_thresholds(int l, int64_t column);
    int64_t find_open(int l, int64_t column, const OpenRows& above);
    template <int Quads>
    int64_t match_quads(int l, int64_t column, int64_t first, int64_t count, int64_t kept);

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
    const bool coded_;
    bool late_ = false, first_chunk_ = true;
    int64_t considered_ = 0, pairs_ = 0, opened_ = 0, queries_ = 0;  // counted for `flooded`
    Level level_[kMaxLevels];
    int64_t above_first_[kMaxLevels];  // the first column of the bounds that a level's bases are in
    int64_t chunk_cells_, chunk_first_ = 0, image_ = 0;
    float *query_norms_, *gallery_norms_, *thresholds_;
    float zeros_[Op::lanes] = {};
    float *interpolated_, *base_;    // bilinear: (coarse rows, kPanel), (kBaseRows, kPanel)
    double* tap_norms_[kMaxLevels];  // bilinear: (positions) a coarser level
};

}  // namespace spadeline

#include "matcher/cpu/bilinear.hpp"
#include "matcher/cpu/dense_codes.hpp"
#include "matcher/cpu/dense_decide.hpp"
#include "matcher/cpu/dense_rows.hpp"
