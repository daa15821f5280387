#include "matcher/search.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "matcher/share_out.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

// Cells that a worker encodes or collects at a time. The 14 x 14 cells of a 224 x 224 image make 25 pieces of work, and
// the features of 8 cells, 128 KB at a level of 16 positions of 256 channels, stay in the second-level cache.
constexpr int64_t kCellsAtOnce = 8;
// Results of fewer positions are written by the caller's thread: that takes less time than waking the others.
constexpr int64_t kFewResults = 8192;
// Bounds that exist at once, at most. A query of 196 cells among 50 images of 196 cells takes 8 MB.
constexpr int64_t kBoundsBytes = 16 << 20;
// What the dense path takes where codes filter, as a part of its multiply-adds without them: 0.01 to 0.3 on images,
// most where bounds rule least out. Counted with 0.1, cells were given up whose bounds would have ruled out the rest
// for less; with 0.5, cells on textures spent longer on bounds that then were given up.
constexpr double kCodedCost = 0.3;
constexpr double kMostCost = 0x1p40;  // of a cell, in multiply-adds: the sum of 2^23 cells' still fits 64 bits
// A cell isn't resumed for less than this part of its first budget: resuming reads all its bounds again.
constexpr int64_t kLeastGrant = 16;
// Turns in which a worker refines its part of the cells. More of them share the work out more evenly, but cells that
// are refined together read each image's codes but once.
constexpr int64_t kRefineTurns = 2;

}  // namespace

Search::Search(const Model& model, int workers)
    : model_(model),
      task_(model.task),
      features_(model.shape.level_count()),
      guarded_features_(model.shape.level_count()),
      projected_(model.shape.level_count()),
      rotated_(model.shape.level_count()),
      scratch_(workers),
      lists_(workers),
      next_chunk_(workers),
      counts_(workers),
      scored_(model.shape.positions(0)),
      budgets_(model.shape.cells()),
      coded_(model.shape.cells()) {
    task_.raster = model.shape.raster(0).data();
    for (int l = 0; l < task_.level_count; ++l) task_.level[l].taps = model.taps[l].data();
    cells_.reserve(model.shape.cells());
    uncoded_.reserve(model.shape.cells());
    unfinished_.reserve(model.shape.cells());
    guarded_.reserve(model.shape.cells());
}

// Whether time is up. All threads that work on the query see it soon after one of them has.
bool Search::late() {
    if (!expired_ && passed(task_.expiry)) expired_ = true;
    return expired_;
}

Statistics Search::run(const Request& request, ThreadPool* pool) {
    begin(request, pool);
    const auto images = static_cast<int64_t>(request.image_ids.size());
    pass({images, scored_.data(), nullptr, -1, request.guard_share}, pool);
    finish(false, pool);
    return statistics();
}

bool Search::begin(const Request& request, ThreadPool* pool, Expiry expiry, const Glance& glance) {
    reserve(request);
    request_ = request;
    expired_ = false;
    task_.expiry = expiry;
    task_.image_ids = request.image_ids.data();
    task_.image_count = glance.images;
    task_.enough = glance.enough;
    task_.kappa = request.kappa;
    task_.window = request.window.value_or(kEverywhere);
    for (size_t i = 0; i < scored_.size(); ++i)
        scored_[i] = task_.raster[i] >= 0 && !(request.ignore && request.ignore[task_.raster[i]]);
    std::fill_n(task_.best, model_.shape.positions(0) * request.kappa,
                Neighbour{std::numeric_limits<double>::infinity(), INT32_MAX, INT32_MAX});
    std::fill(counts_.begin(), counts_.end(), Counts{});
    guarded_cells_ = 0;
    plain_ = 0;
    std::fill(coded_.begin(), coded_.end(), uint8_t{0});
    task_.scored = scored_.data();
    share_out(
        pool, ceil_div(task_.cells, kCellsAtOnce), 1,
        [&](int worker, int64_t i, int64_t) {
            const int64_t first = i * kCellsAtOnce, last = std::min(first + kCellsAtOnce, task_.cells);
            for (int64_t l = 0; l < task_.level_count; ++l) {
                gather(l, first, last);
                if (!glance.images) encode(worker, l, first, last);
            }
            if (glance.images)
                counts_[worker].exact += model_.kernels.match_same_place(task_, first, last, scratch_[worker].data());
        },
        [&] { return late(); });
    return !expired_;
}

bool Search::pass(const Pass& pass, ThreadPool* pool) {
    task_.image_count = pass.images;
    task_.scored = pass.positions;
    task_.caps = pass.caps;
    task_.enough = pass.enough;
    task_.visits = pass.visits;
    // With an infinite share no cell is given up, whatever it costs.
    const double dense_cost =
        std::isinf(pass.guard_share) ? kMostCost : kCodedCost * model_.shape.dense_cost(request_.window, pass.images);
    task_.dense_cost = static_cast<int64_t>(std::min(dense_cost, kMostCost));
    if (model_.pruned) {
        bound_and_refine(pass.guard_share, pool);
        match_guarded(pool);
    } else {
        match_dense(task_, task_.cells, pool);
    }
    return !late();
}

void Search::finish(bool partly, ThreadPool* pool) {
    const int64_t cells = task_.cells;
    if (model_.shape.positions(0) < kFewResults) pool = nullptr;
    share_out(pool, ceil_div(cells, kCellsAtOnce),
              [&](int, int64_t i) { collect(partly, i * kCellsAtOnce, std::min((i + 1) * kCellsAtOnce, cells)); });
}

Statistics Search::statistics() const {
    Statistics statistics{{}, guarded_cells_};
    for (const Counts& counts : counts_) {
        statistics.counts.pairs += counts.pairs;
        statistics.counts.exact += counts.exact;
        for (int l = 0; l < task_.level_count; ++l) statistics.counts.passed[l] += counts.passed[l];
    }
    return statistics;
}

void Search::reserve(const Request& request) {
    task_.image_count = static_cast<int64_t>(request.image_ids.size());  // no pass has more
    int64_t scratch = std::max(model_.pruned ? Refinement::kMost * model_.kernels.refine_floats(task_) : 0,
                               model_.kernels.same_place_floats(task_));
    for (int64_t l = 0; l < model_.shape.level_count(); ++l) {
        LevelTask& level = task_.level[l];
        level.query = features_[l].reserve(level.positions * level.channels);
        if (model_.pruned) guarded_features_[l].reserve(level.positions * level.channels);
        const auto reserve_codes = [&](const LevelEncoder* encoder, Codes& codes, CodeTask& task) {
            if (!encoder) return;
            task.query = {codes.bytes.reserve(level.positions * task.dims),
                          codes.terms.reserve(level.positions * kTerms), codes.sums.reserve(level.positions)};
            scratch = std::max(scratch, model_.kernels.encode_floats(encoder->book()));
        };
        reserve_codes(model_.projected[l].get(), projected_[l], level.projected);
        reserve_codes(model_.rotated[l].get(), rotated_[l], level.rotated);
    }
    const auto workers = static_cast<int64_t>(scratch_.size());
    for (int64_t i = 0; i < workers; ++i) {  // with taps a share's floats depend on where it lies
        const int64_t first = task_.cells * i / workers, last = task_.cells * (i + 1) / workers;
        scratch = std::max(scratch, model_.kernels.share_floats(task_, first, last - first));
    }
    for (int64_t i = 0; i < workers; ++i) {  // the first worker may be given all of the dense path's cells
        const int64_t most =
            std::min(task_.cells, i ? std::max(ceil_div(task_.cells, workers), 2 * kLeastCells) : task_.cells);
        scratch_[i].reserve(std::max(scratch, model_.kernels.share_floats(task_, 0, most)));
        lists_[i].reserve(most * model_.shape.block(0) * request.kappa);
    }
    task_.best = best_.reserve(model_.shape.positions(0) * request.kappa);
    if (!model_.pruned) return;
    const auto images = static_cast<int64_t>(request.image_ids.size());
    // A pass over fewer images may have more cells in a band.
    bounds_.reserve(std::min(task_.cells * stride_of(images), std::max(stride_of(images), kBoundsBytes / 4)));
    const CodeTask& code = coarsest_codes();
    coarsest_rows_ = {coarsest_.bytes.reserve(task_.cells * code.dims), coarsest_.terms.reserve(task_.cells * kTerms),
                      coarsest_.sums.reserve(task_.cells)};
}

// How many bounds a query cell has.
int64_t Search::stride_of(int64_t images) const { return images * panels() * kPanel; }

// How many of the query's cells are bounded at once.
int64_t Search::band_of(int64_t images) const {
    return std::clamp<int64_t>(kBoundsBytes / (stride_of(images) * 4), 1, task_.cells);
}

int64_t Search::panels() const { return ceil_div(task_.cells, kPanel); }

// The codes that the coarsest level's bounds are made of.
const CodeTask& Search::coarsest_codes() const {
    const LevelTask& level = task_.level[task_.level_count - 1];
    return task_.level_count > 1 ? level.projected : level.rotated;
}

// Gives each cell with a position to search a slot, and codes if it has none. The codes of their coarsest level are
// copied, so that they lie together. Returns false if it is late.
bool Search::take_cells(ThreadPool* pool) {
    cells_.clear();
    uncoded_.clear();
    const int64_t block = model_.shape.block(0);
    for (int64_t cell = 0; cell < task_.cells; ++cell) {
        const uint8_t* positions = task_.scored + cell * block;
        if (std::none_of(positions, positions + block, [](uint8_t asked) { return asked != 0; })) continue;
        cells_.push_back(cell);
        if (!coded_[cell]) uncoded_.push_back(cell);
    }
    if (!uncoded_.empty()) {
        share_out(
            pool, static_cast<int64_t>(uncoded_.size()), kCellsAtOnce,
            [&](int worker, int64_t i, int64_t number) {
                for (const int64_t end = i + number; i < end;) {  // cells in a row at once
                    const int64_t first = i++;
                    while (i < end && uncoded_[i] == uncoded_[i - 1] + 1) ++i;
                    for (int64_t l = 0; l < task_.level_count; ++l)
                        encode(worker, l, uncoded_[first], uncoded_[i - 1] + 1);
                }
            },
            [&] { return late(); });
    }
    if (expired_) return false;
    const CodeTask& code = coarsest_codes();
    for (size_t slot = 0; slot < cells_.size(); ++slot) {
        const auto to = static_cast<int64_t>(slot), from = cells_[slot];
        std::copy_n(code.query.codes + from * code.dims, code.dims, coarsest_rows_.codes + to * code.dims);
        std::copy_n(code.query.terms + from * kTerms, kTerms, coarsest_rows_.terms + to * kTerms);
        coarsest_rows_.sums[to] = code.query.sums[from];
    }
    return true;
}

// The pass's cells are taken in bands whose bounds fit kBoundsBytes. Each band is bounded, then refined.
void Search::bound_and_refine(double guard_share, ThreadPool* pool) {
    guarded_.clear();
    if (!take_cells(pool)) return;
    const int64_t panels = this->panels(), stride = stride_of(task_.image_count), band = band_of(task_.image_count);
    const int64_t dims = coarsest_codes().dims, cells = static_cast<int64_t>(cells_.size());
    const auto budget = static_cast<int64_t>(std::min(guard_share * static_cast<double>(task_.dense_cost), kMostCost));
    for (int64_t first = 0; first < cells && !expired_; first += band) {
        const int64_t count = std::min(band, cells - first);
        const CodeRows& all = coarsest_rows_;
        const CodeRows rows{all.codes + first * dims, all.terms + first * kTerms, all.sums + first};
        share_out(
            pool, task_.image_count * panels, 1,
            [&](int, int64_t i, int64_t) {
                model_.kernels.bound_panel(task_, rows, count, task_.image_ids[i / panels], i % panels,
                                           bounds_.data() + i * kPanel, stride);
            },
            [&] { return late(); });
        refine(first, count, budget, pool);
    }
}

// Refines the band of `count` cells whose first has the slot `first`.
//
// First each cell may spend half of its budget. Cells that need more and aren't hopeless then share what the whole band
// has left over, equally. This is repeated until all cells are done or too little is left to share.
void Search::refine(int64_t first, int64_t count, int64_t budget, ThreadPool* pool) {
    unfinished_.clear();
    for (int64_t slot = 0; slot < count; ++slot) unfinished_.push_back(slot);
    const int64_t* cells = cells_.data() + first;
    int64_t granted = budget / 2, reserve = (budget - granted) * count;
    for (bool resume = false; !expired_; resume = true) {
        for (const int64_t slot : unfinished_) budgets_[slot] = granted;
        share_out(
            pool, static_cast<int64_t>(unfinished_.size()), Refinement::kMost,
            [&](int worker, int64_t i, int64_t number) {
                model_.kernels.refine(task_,
                                      {unfinished_.data() + i, number, cells, bounds_.data(),
                                       stride_of(task_.image_count), resume, budgets_.data(), scratch_[worker].data()},
                                      counts_[worker]);
            },
            [&] { return late(); }, kRefineTurns);
        if (expired_) return;
        for (const int64_t slot : unfinished_) {
            if (budgets_[slot] > 0) reserve += budgets_[slot];
            if (budgets_[slot] == kHopeless) guarded_.push_back(cells[slot]);
        }
        std::erase_if(unfinished_, [&](int64_t slot) { return budgets_[slot] > 0 || budgets_[slot] == kHopeless; });
        if (unfinished_.empty()) return;
        granted = reserve / static_cast<int64_t>(unfinished_.size());
        reserve = 0;
        if (granted <= budget / kLeastGrant) break;
    }
    for (const int64_t slot : unfinished_) guarded_.push_back(cells[slot]);
}

void Search::collect(bool partly, int64_t first_cell, int64_t last_cell) const {
    const Request& request = request_;
    const int64_t width = model_.shape.levels()[0].width, kappa = request.kappa;
    for (int64_t i = first_cell * model_.shape.block(0); i < last_cell * model_.shape.block(0); ++i) {
        const int64_t raster = model_.shape.raster(0)[i];
        if (raster < 0) continue;
        int32_t* out = request.neighbours + raster * kappa * 3;
        if (request.ignore && request.ignore[raster]) {
            request.distances[raster] = 0;
            std::fill_n(out, kappa * 3, -1);
            continue;
        }
        const Neighbour* best = this->best(i);
        const double distance = mean_distance(best, kappa);
        if (!partly && !std::isfinite(distance))
            throw std::runtime_error("gallery: expected finite features, got NaN or infinity");
        for (int64_t k = 0; k < kappa; ++k, out += 3) {
            if (!std::isfinite(best[k].distance)) {
                std::fill_n(out, 3, -1);
                continue;
            }
            out[0] = best[k].image;
            out[1] = static_cast<int32_t>(best[k].raster / width);
            out[2] = static_cast<int32_t>(best[k].raster % width);
        }
        request.distances[raster] = distance;
    }
}

}  // namespace spadeline
