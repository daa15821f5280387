// How a query's cells are given to the dense path, and its gallery to the threads: see Search.
#include <algorithm>
#include <functional>
#include <tuple>

#include "matcher/search.hpp"

namespace spadeline {
namespace {

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

}  // namespace

// The dense path matches the cells that pruning gave up. They are gathered first, so that their features lie together.
void Search::match_guarded(ThreadPool* pool) {
    if (guarded_.empty() || expired_) return;
    guarded_cells_ += static_cast<int64_t>(guarded_.size());
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
void Search::match_dense(const MatchTask& task, int64_t cells, ThreadPool* pool) {
    const int64_t workers = pool ? pool->size() : 1;
    const auto groups = std::clamp<int64_t>(cells / kLeastCells, 1, workers);
    std::fill_n(next_chunk_.begin(), groups, 0);
    const auto match_groups = [&](int worker) {
        for (int64_t i = 0; i < groups; ++i) {
            const int64_t group = (worker * groups / workers + i) % groups;
            const int64_t first = cells * group / groups, count = cells * (group + 1) / groups - first;
            match_cells(task,
                        {first, count, scratch_[worker].data(), lists_[worker].data(), &next_chunk_[group], &plain_});
        }
    };
    if (pool) {
        pool->run(std::ref(match_groups));
    } else {
        match_groups(0);
    }
}

void Search::match_cells(const MatchTask& task, const Share& share) {
    const int64_t floats = task.level[0].block * task.kappa;
    const auto each_cell = [&](const auto& work) {
        const std::lock_guard turn(merging_);
        for (int64_t i = 0; i < share.cell_count; ++i) {
            const int64_t cell = share.first_cell + i;
            work(task.best + (task.query_cells ? task.query_cells[cell] : cell) * floats, share.lists + i * floats);
        }
    };
    each_cell([&](const Neighbour* best, Neighbour* list) { std::copy_n(best, floats, list); });
    if (!model_.kernels.match(task, share)) expired_ = true;
    each_cell([&](Neighbour* best, const Neighbour* list) {
        for (int64_t i = 0; i < floats; i += task.kappa) merge(list + i, task.kappa, best + i);
    });
}

}  // namespace spadeline
