#include "matcher/search.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "matcher/half.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

// Cells that a worker encodes or collects at a time. The 14 x 14 cells of a 224 x 224 image make 25 pieces of work, and
// the features of 8 cells, 128 KB at a level of 16 positions of 256 channels, stay in the second-level cache.
constexpr int64_t kCellsAtOnce = 8;
constexpr int64_t kTurns = 4;  // a worker takes at most a fourth of its part of what is left: the last pieces are small
// Positions whose features are copied at a time: a cell's at the finest of three levels.
constexpr int64_t kGathered = 16;
// Features are fetched so many channels ahead. Channels lie a whole plane apart, which the processor doesn't foresee.
constexpr int64_t kChannelsAhead = 8;
// Bounds that exist at once, at most. A query of 196 cells among 50 images of 196 cells takes 8 MB.
constexpr int64_t kBoundsBytes = 16 << 20;
// What the dense path takes where codes filter, as a part of its multiply-adds without them: 0.01 to 0.3 on images, most
// where bounds rule least out. A larger part made cells spend longer on bounds that then were given up.
constexpr double kCodedCost = 0.1;
constexpr double kMostCost = 0x1p40;  // of a cell, in multiply-adds: the sum of 2^23 cells' still fits 64 bits
// A cell isn't resumed for less than this part of its first budget: resuming reads all its bounds again.
constexpr int64_t kLeastGrant = 16;

// Query cells of a group that the dense path matches together, at least, if there are as many: with fewer of them the
// coarsest level's products, which fill registers with cells, would cost as much as all others.
constexpr int64_t kLeastCells = 16;

// Puts the kappa nearest of two lists into the second one, each position once.
void merge(const Neighbour* list, int64_t kappa, Neighbour* best) {
    const auto before = [](const Neighbour& a, const Neighbour& b) {
        return std::tie(a.distance, a.image, a.raster) < std::tie(b.distance, b.image, b.raster);
    };
    for (int64_t i = 0; i < kappa && before(list[i], best[kappa - 1]); ++i) {
        Neighbour* const at = std::lower_bound(best, best + kappa, list[i], before);
        if (at->image == list[i].image && at->raster == list[i].raster) continue;
        std::move_backward(at, best + kappa - 1, best + kappa);
        *at = list[i];
    }
}

// Hands out 0 … count - 1 as work(worker, first, number): at most `most` at a time and fewer towards the end, so that
// no worker is idle while another one has a long piece of work.
template <class Work>
void share_out(ThreadPool* pool, int64_t count, int64_t most, const Work& work) {
    const int64_t workers = pool ? pool->size() : 1;
    std::atomic<int64_t> next = 0;
    const auto take = [&](int worker) {
        for (int64_t first = next; first < count;) {
            const int64_t number = std::clamp<int64_t>((count - first) / (kTurns * workers), 1, most);
            if (!next.compare_exchange_weak(first, first + number)) continue;
            work(worker, first, number);
            first = next;
        }
    };
    if (pool) {
        pool->run(std::ref(take));
    } else {
        take(0);
    }
}

// One at a time, as work(worker, i).
template <class Work>
void share_out(ThreadPool* pool, int64_t count, const Work& work) {
    share_out(pool, count, 1, [&](int worker, int64_t i, int64_t) { work(worker, i); });
}

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
      budgets_(model.shape.cells()) {
    task_.raster = model.shape.raster(0).data();
    for (int l = 0; l < task_.level_count; ++l) task_.level[l].taps = model.taps[l].data();
    unfinished_.reserve(model.shape.cells());
    guarded_.reserve(model.shape.cells());
}

Statistics Search::run(const Request& request, ThreadPool* pool) {
    const int64_t cells = model_.shape.cells();
    begin(request);
    share_out(pool, ceil_div(cells, kCellsAtOnce), [&](int worker, int64_t i) {
        encode(request, worker, i * kCellsAtOnce, std::min((i + 1) * kCellsAtOnce, cells));
    });
    if (model_.pruned) {
        bound_and_refine(request, pool);
        match_guarded(pool);
    } else {
        match_dense(task_, cells, pool);
    }
    share_out(pool, ceil_div(cells, kCellsAtOnce),
              [&](int, int64_t i) { collect(request, i * kCellsAtOnce, std::min((i + 1) * kCellsAtOnce, cells)); });
    Statistics statistics{{}, static_cast<int64_t>(guarded_.size())};
    for (const Counts& counts : counts_) {
        statistics.counts.pairs += counts.pairs;
        statistics.counts.exact += counts.exact;
        for (int l = 0; l < task_.level_count; ++l) statistics.counts.passed[l] += counts.passed[l];
    }
    return statistics;
}

void Search::reserve(const Request& request) {
    int64_t scratch = model_.pruned ? Refinement::kMost * model_.kernels.refine_floats(task_) : 0;
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
        const int64_t most = std::min(task_.cells, i ? std::max(ceil_div(task_.cells, workers), 2 * kLeastCells)
                                                     : task_.cells);
        scratch_[i].reserve(std::max(scratch, model_.kernels.share_floats(task_, 0, most)));
        lists_[i].reserve(most * model_.shape.block(0) * request.kappa);
    }
    task_.best = best_.reserve(model_.shape.positions(0) * request.kappa);
    if (model_.pruned) bounds_.reserve(band_of(request) * stride_of(request));
}

// How many bounds a query cell has.
int64_t Search::stride_of(const Request& request) const {
    return static_cast<int64_t>(request.image_ids.size()) * panels() * kPanel;
}

// How many of the query's cells are bounded at once.
int64_t Search::band_of(const Request& request) const {
    return std::clamp<int64_t>(kBoundsBytes / (stride_of(request) * 4), 1, task_.cells);
}

int64_t Search::panels() const { return ceil_div(task_.cells, kPanel); }

void Search::begin(const Request& request) {
    reserve(request);
    task_.image_ids = request.image_ids.data();
    task_.image_count = static_cast<int64_t>(request.image_ids.size());
    task_.kappa = request.kappa;
    task_.window = request.window.value_or(kEverywhere);
    // With an infinite share no cell is given up, whatever it costs.
    const double dense_cost =
        std::isinf(request.guard_share)
                                  ? kMostCost
                                  : kCodedCost * model_.shape.dense_cost(request.window, task_.image_count);
    task_.dense_cost = static_cast<int64_t>(std::min(dense_cost, kMostCost));
    for (size_t i = 0; i < scored_.size(); ++i)
        scored_[i] = task_.raster[i] >= 0 && !(request.ignore && request.ignore[task_.raster[i]]);
    task_.scored = scored_.data();
    std::fill_n(task_.best, model_.shape.positions(0) * request.kappa,
                Neighbour{std::numeric_limits<double>::infinity(), INT32_MAX, INT32_MAX});
    std::fill(counts_.begin(), counts_.end(), Counts{});
    guarded_.clear();
}

// Turns the query's features into rows of channels and into codes, in cells [first_cell, last_cell).
void Search::encode(const Request& request, int worker, int64_t first_cell, int64_t last_cell) {
    for (int64_t l = 0; l < model_.shape.level_count(); ++l) {
        const LevelTask& level = task_.level[l];
        const int64_t first = first_cell * level.block, last = last_cell * level.block;
        for (int64_t i = first; i < last; i += kGathered)
            gather(request.levels[l], l, i, std::min(i + kGathered, last));
        const auto encode_as = [&](const LevelEncoder* encoder, const CodeRows& rows) {
            if (!encoder) return;
            const Codebook& book = encoder->book();
            model_.kernels.encode(book, level.query + first * level.channels, last - first,
                                  {rows.codes + first * book.dims, rows.terms + first * kTerms, rows.sums + first},
                                  scratch_[worker].data());
        };
        encode_as(model_.projected[l].get(), level.projected.query);
        encode_as(model_.rotated[l].get(), level.rotated.query);
    }
}

// Copies one level's features of positions [first, last), at most kGathered, channel by channel: a channel's positions
// lie close to each other, a position's channels don't.
void Search::gather(const QueryLevel& query, int64_t l, int64_t first, int64_t last) {
    const LevelShape& level = model_.shape.levels()[l];
    const int64_t plane = level.height * level.width, count = last - first;
    const auto* raster = model_.shape.raster(l).data() + first;
    float* rows = features_[l].data() + first * level.channels;
    const bool whole = std::none_of(raster, raster + count, [](int64_t at) { return at < 0; });
    const auto copy = [&](const auto* data, const auto& value) {
        for (int64_t c = 0; c < level.channels; ++c, data += plane) {
            float* out = rows + c;
            if (whole && count == kGathered) {
                for (int64_t i = 0; i < kGathered; ++i) {
                    if (i % 2 == 0) __builtin_prefetch(data + kChannelsAhead * plane + raster[i]);
                    out[i * level.channels] = value(data[raster[i]]);
                }
            } else {
                for (int64_t i = 0; i < count; ++i)
                    out[i * level.channels] = raster[i] < 0 ? 0.0f : value(data[raster[i]]);
            }
        }
    };
    if (query.storage == Storage::float16) {
        copy(static_cast<const uint16_t*>(query.data), [](uint16_t half) { return half_to_float(half); });
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

// The query's cells are taken in bands whose bounds fit kBoundsBytes. Each band is bounded, then refined.
void Search::bound_and_refine(const Request& request, ThreadPool* pool) {
    const int64_t panels = this->panels(), stride = stride_of(request), band = band_of(request);
    float* bounds = bounds_.data();
    const auto budget =
        static_cast<int64_t>(std::min(request.guard_share * static_cast<double>(task_.dense_cost), kMostCost));
    for (int64_t first = 0; first < task_.cells; first += band) {
        const int64_t count = std::min(band, task_.cells - first);
        share_out(pool, task_.image_count * panels, [&](int, int64_t i) {
            model_.kernels.bound_panel(task_, task_.image_ids[i / panels], i % panels, first, count,
                                       bounds + i * kPanel, stride);
        });
        refine(first, count, budget, bounds, stride, pool);
    }
}

// First each cell may spend half of its budget. Cells that need more and aren't hopeless then share what the whole band
// has left over, equally. This is repeated until all cells are done or too little is left to share.
void Search::refine(int64_t first, int64_t count, int64_t budget, float* bounds, int64_t stride, ThreadPool* pool) {
    unfinished_.clear();
    for (int64_t cell = first; cell < first + count; ++cell) unfinished_.push_back(cell);
    int64_t granted = budget / 2, reserve = (budget - granted) * count;
    for (bool resume = false;; resume = true) {
        for (const int64_t cell : unfinished_) budgets_[cell] = granted;
        share_out(pool, static_cast<int64_t>(unfinished_.size()), Refinement::kMost,
                  [&](int worker, int64_t i, int64_t number) {
                      model_.kernels.refine(task_,
                                            {unfinished_.data() + i, number, bounds, first, stride, resume,
                                             budgets_.data(), scratch_[worker].data()},
                                            counts_[worker]);
                  });
        for (const int64_t cell : unfinished_) {
            if (budgets_[cell] > 0) reserve += budgets_[cell];
            if (budgets_[cell] == kHopeless) guarded_.push_back(cell);
        }
        std::erase_if(unfinished_, [&](int64_t cell) { return budgets_[cell] > 0 || budgets_[cell] == kHopeless; });
        if (unfinished_.empty()) return;
        granted = reserve / static_cast<int64_t>(unfinished_.size());
        reserve = 0;
        if (granted <= budget / kLeastGrant) break;
    }
    guarded_.insert(guarded_.end(), unfinished_.begin(), unfinished_.end());
}

// The dense path matches the cells that pruning gave up. They are gathered first, so that their features lie together.
void Search::match_guarded(ThreadPool* pool) {
    if (guarded_.empty()) return;
    std::sort(guarded_.begin(), guarded_.end());
    const auto cells = static_cast<int64_t>(guarded_.size());
    MatchTask task = task_;
    task.query_cells = guarded_.data();
    for (int l = 0; l < task.level_count; ++l) {
        LevelTask& level = task.level[l];
        const int64_t floats = level.block * level.channels;
        float* gathered = guarded_features_[l].data();
        for (int64_t i = 0; i < cells; ++i)
            std::copy_n(level.query + guarded_[i] * floats, floats, gathered + i * floats);
        level.query = gathered;
    }
    match_dense(task, cells, pool);
}

// The cells are shared out in groups, and each group's chunks of the gallery among the workers: first a worker takes
// those of its own group, then what others have left. So a few cells keep all workers busy, too. Each worker lists what
// it finds by itself; the lists are merged at the end.
bool Search::match_dense(const MatchTask& task, int64_t cells, ThreadPool* pool) {
    const int64_t workers = pool ? pool->size() : 1;
    const auto groups = std::clamp<int64_t>(cells / kLeastCells, 1, workers);
    std::fill_n(next_chunk_.begin(), groups, 0);
    std::atomic<bool> finished = true;
    const auto match_groups = [&](int worker) {
        for (int64_t i = 0; i < groups; ++i) {
            const int64_t group = (worker * groups / workers + i) % groups;
            const int64_t first = cells * group / groups, count = cells * (group + 1) / groups - first;
            if (!match_cells(task, {first, count, scratch_[worker].data(), lists_[worker].data(), &next_chunk_[group]}))
                finished = false;
        }
    };
    if (pool) {
        pool->run(std::ref(match_groups));
    } else {
        match_groups(0);
    }
    return finished;
}

bool Search::match_cells(const MatchTask& task, const Share& share) {
    const int64_t floats = task.level[0].block * task.kappa;
    const auto each_cell = [&](const auto& work) {
        const std::lock_guard turn(merging_);
        for (int64_t i = 0; i < share.cell_count; ++i) {
            const int64_t cell = share.first_cell + i;
            work(task.best + (task.query_cells ? task.query_cells[cell] : cell) * floats, share.lists + i * floats);
        }
    };
    each_cell([&](const Neighbour* best, Neighbour* list) { std::copy_n(best, floats, list); });
    const bool finished = model_.kernels.match(task, share);
    each_cell([&](Neighbour* best, const Neighbour* list) {
        for (int64_t i = 0; i < floats; i += task.kappa) merge(list + i, task.kappa, best + i);
    });
    return finished;
}

void Search::collect(const Request& request, int64_t first_cell, int64_t last_cell) const {
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
        const Neighbour* best = task_.best + i * kappa;
        if (!std::isfinite(best[kappa - 1].distance))
            throw std::runtime_error("gallery: expected finite features, got NaN or infinity");
        double sum = 0;
        for (int64_t k = 0; k < kappa; ++k, out += 3) {
            sum += best[k].distance;
            out[0] = best[k].image;
            out[1] = static_cast<int32_t>(best[k].raster / width);
            out[2] = static_cast<int32_t>(best[k].raster % width);
        }
        request.distances[raster] = sum / static_cast<double>(kappa);
    }
}

}  // namespace spadeline
