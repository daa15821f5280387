// Steps 3 to 6 of the pruned path, for a few cells of the query side by side: each cell's thresholds, codes and budget,
// and the order of the steps.
//
//   3. seeds        sweep.hpp    the most promising gallery cells give the first thresholds
//   4. sweep        sweep.hpp    then all gallery cells that may hold something nearer, image by image
//   5. descent      blocks.hpp   from a pair of cells down the levels, bound by bound
//   6. decision     decide.hpp   in float64; thresholds fall
//
// A cell that would cost more than its budget is left unfinished; search.cpp deals with it.
#pragma once

#include <cstdint>
#include <optional>

#include "matcher/cpu/bound.hpp"
#include "matcher/cpu/exact.hpp"
#include "matcher/cpu/workspace.hpp"
#include "matcher/match_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

template <class Op>
class Refine {
 public:
    static int64_t workspace_floats(const MatchTask& task) {
        Refine refine(task, 0, nullptr, 0);
        return refine.lay_out(nullptr);
    }

    static void match(const MatchTask& task, const Refinement& group, Counts& counts) {
        const int64_t floats = workspace_floats(task);
        std::optional<Refine> cells[Refinement::kMost];
        bool going[Refinement::kMost];
        for (int64_t i = 0; i < group.count; ++i) {
            const int64_t slot = group.slots[i];
            float* bounds = group.bounds + slot * group.stride;
            Refine& refine = cells[i].emplace(task, group.cells[slot], bounds, group.budgets[slot]);
            refine.lay_out(group.workspace + i * floats);
            going[i] = refine.prepare();
            if (going[i] && !group.resume) refine.count_pairs();
            going[i] = going[i] && refine.seed();
        }
        for (int64_t k = 0; k < task.image_count && !task.visits; ++k)  // few visits are seeds
            for (int64_t i = 0; i < group.count; ++i) going[i] = going[i] && cells[i]->sweep(k);
        for (int64_t i = 0; i < group.count; ++i) {
            const Refine& refine = *cells[i];
            group.budgets[group.slots[i]] = refine.budget_;
            counts.pairs += refine.counts_.pairs;
            counts.exact += refine.counts_.exact;
            for (int l = 0; l < task.level_count; ++l) counts.passed[l] += refine.counts_.passed[l];
        }
    }

    Refine(const MatchTask& task, int64_t query_cell, float* bounds, int64_t budget)
        : task_(task),
          cell_(query_cell),
          bounds_(bounds),
          panels_(ceil_div(task.cells, kPanel)),
          granted_(budget),
          budget_(budget),
          next_look_(budget) {}

 private:
    using Reg = typename Op::Reg;
    static constexpr int kBlock = 16;  // pairs: four query positions by four of the gallery
    static constexpr int kRegs = kBlock / Op::lanes;

    // Four query vectors' terms, each repeated for the four gallery vectors of a block.
    struct Group {
        float scale[kBlock], norm[kBlock], error[kBlock], residual[kBlock];
        int32_t offset[kBlock];
    };
    static constexpr int64_t kGroupFloats = sizeof(Group) / sizeof(float);
    struct Place {      // a gallery cell
        int64_t at;     // index of its bound
        int64_t image;  // index of its image in image_ids
    };
    struct Code {
        int8_t* codes;  // (block, dims / 4, 4, 4): each four bytes four times, once for each gallery vector of a block
        Group* groups;  // (block / 4)
    };
    struct Level {
        Code projected, rotated;
        float* thresholds;  // (block): the largest of all finest positions below
        float* widened;     // one vector, float16 galleries only
        int64_t gallery;    // the position that was entered; if `known`, `exact` is its exact distance
        double exact;
        bool known;
    };

    // Places all buffers one behind the other and returns the floats that they take.
    int64_t lay_out(float* base) {
        Workspace<Op> workspace(base);
        const auto take = [&](int64_t floats) { return workspace.take(floats); };
        for (int l = 0; l < task_.level_count; ++l) {
            const LevelTask& level = task_.level[l];
            level_[l].thresholds = take(level.block);
            level_[l].widened = take(level.channels);
            level_[l].known = false;
            if (l == task_.level_count - 1) break;  // its codes are read by coarse.hpp
            const auto room = [&](const CodeTask& code) {
                auto* codes = reinterpret_cast<int8_t*>(take(level.block * code.dims));
                return Code{codes, reinterpret_cast<Group*>(take(level.block / kGroup * kGroupFloats))};
            };
            level_[l].projected = room(level.projected);
            level_[l].rotated = room(level.rotated);
        }
        lowest_ = take(task_.image_count);
        lowest_at_ = reinterpret_cast<int64_t*>(take(2 * task_.image_count));
        return workspace.floats();
    }

    // Returns false if nothing of this cell is asked for, or nothing any more.
    bool prepare() {
        bool any = false;
        const int64_t first = cell_ * task_.level[0].block;
        for (int64_t i = 0; i < task_.level[0].block; ++i) {
            float& position = level_[0].thresholds[i];
            position = task_.scored[first + i] ? threshold(first + i) : -__builtin_inff();
            any |= position >= 0;
        }
        if (!any) return false;
        for (int l = 1; l < task_.level_count; ++l)
            for (int64_t i = 0; i < task_.level[l].block; ++i) lower_threshold(l, i);
        for (int l = 0; l + 1 < task_.level_count; ++l) {
            const LevelTask& level = task_.level[l];
            expand(level.block, level.projected, level_[l].projected);
            expand(level.block, level.rotated, level_[l].rotated);
        }
        return true;
    }

    void count_pairs() {
        for (int64_t k = 0; k < task_.image_count; ++k)
            each_run(k, [&](int64_t, int64_t first, int64_t last) {
                counts_.pairs += last - first;
                return true;
            });
    }

    // A pair whose bound exceeds this isn't among the kappa nearest, or isn't asked for, whatever was rounded. Minus
    // infinity for a position that is searched no further.
    float threshold(int64_t position) const {
        const Neighbour* best = task_.best + position * task_.kappa;
        if (task_.enough >= 0 && mean_distance(best, task_.kappa) <= task_.enough) return -__builtin_inff();
        double largest = best[task_.kappa - 1].distance;
        if (task_.caps && task_.caps[position] < largest) largest = task_.caps[position];
        return threshold_of<Op>(largest * (1 + 0x1p-18));
    }

    float cell_threshold() const { return level_[task_.level_count - 1].thresholds[0]; }
    int64_t children(int l) const { return task_.level[l].block / task_.level[l + 1].block; }

    int64_t locate(const Place& place) {
        image_ = task_.image_ids[place.image];
        return place.at - place.image * panels_ * kPanel;
    }

    void enter(int l, int64_t gallery) {
        level_[l].gallery = gallery;
        level_[l].known = false;
    }

    // sweep.hpp
    bool seed();
    bool sweep(int64_t k);
    void visit(const Place& place, bool screened);
    bool spent(int64_t at);
    bool screens() const;
    bool screen(const Place& place);
    void prefetch(const Place& place);
    void prefetch(const CodeTask& code, int64_t group) const;
    uint32_t open_at(int64_t i, int64_t last) const;
    void find_lowest(int64_t k);
    static int64_t lowest_of(const float* values, int64_t first, int64_t last, float& lowest);
    template <class Visit>
    bool each_run(int64_t k, const Visit& visit_run) const;

    // blocks.hpp
    void expand(int64_t block, const CodeTask& task, const Code& out);
    void descend(int l, int64_t query, int64_t gallery, float base, bool screened);
    void match_block(int l, int64_t query_group, int64_t gallery_group, float base, bool screened);
    uint32_t block_bounds(int l, const CodeTask& task, const Code& code, int64_t query_group, int64_t gallery_group,
                          float base, float* bounds);
    void prefetch_below(int l, int64_t gallery_group, uint32_t open) const;

    // decide.hpp
    void decide(int64_t query, int64_t gallery);
    double distance(int l, int64_t query, int64_t gallery);
    double exact(int l, int64_t query);
    float excess_of(int l, int64_t query, float bound);
    void lower_threshold(int l, int64_t i);

    static constexpr int kSeeds = 2;  // further seeds hardly lowered thresholds, and each of them reads all bounds
    static constexpr int64_t kBetweenLooks = 1 << 21;  // multiply-adds between looks at the clock, some 0.05 ms
    // Gallery cells whose codes are fetched together. With kPrefetchBytes each they take 144 KB of the second-level
    // cache.
    static constexpr int kAhead = 64;
    // What is fetched of a record, at most: one of rotated codes of 560 channels. Later bytes are read in a row.
    static constexpr int64_t kPrefetchBytes = kGroup * (560 + kTerms * 4);
    static constexpr double kLargestSum =
        0x1p127;  // exact distances that replace bounds are capped, so as to be finite
    // A cell is hopeless once it has cost more than kPatience of the dense path's work, and more than kHopelessCost
    // times what the dense path would have cost for the part of the gallery that the cell has seen. kPatience is above
    // the 4 % that every cell may spend, so only cells that were granted more are hopeless.
    static constexpr double kPatience = 0.05, kHopelessCost = 3;
    // Estimates of what steps cost beside their products, in multiply-adds of the dense path: a block's votes and
    // terms; a distance in float64, whose rows aren't in the cache, and each of its channels. They steer the guard, not
    // results.
    static constexpr int64_t kBlockCost = 1000, kExactCost = 5500, kExactChannel = 4;

    const MatchTask& task_;
    const int64_t cell_;
    float* const bounds_;
    const int64_t panels_;
    const int64_t granted_;
    int64_t image_ = 0, budget_, next_look_;
    Counts counts_{};
    Level level_[kMaxLevels];
    float* lowest_;  // for each image, the smallest bound of a cell that isn't visited yet, and where it is
    int64_t* lowest_at_;
};

}  // namespace spadeline

#include "matcher/cpu/blocks.hpp"
#include "matcher/cpu/decide.hpp"
#include "matcher/cpu/sweep.hpp"
