// Steps 2 to 5 of the pruned path, for one cell of the query:
//
//   2. seeds: the gallery cells of the lowest bounds are refined first, which gives the thresholds;
//   3. sweep: all gallery cells whose bound doesn't exceed the cell's threshold are refined;
//      refining goes down the levels in blocks of 4 x 4 pairs, and on from the pairs that are left;
//   4. pairs that are left at the finest level are computed in float64, and decide; thresholds fall;
//   5. guard: a cell that spends more than its budget is given up, and the dense path matches it.
#pragma once

#include <cstdint>

#include "matcher/cpu/bound.hpp"
#include "matcher/cpu/exact.hpp"
#include "matcher/match_task.hpp"

namespace spadeline {

inline constexpr int kSeeds = 4;

template <class Op>
class Refine {
 public:
    static int64_t workspace_floats(const MatchTask& task) {
        Refine refine(task, 0, nullptr, 0);
        return refine.lay_out(nullptr);
    }

    // `bounds`: (image_count, panels, kPanel) of this query cell; those of gallery cells that were dealt with become
    // infinite. Deducts from `budget`; if nothing is left, `best` and `bounds` hold what it takes to resume, unless it
    // is kHopeless.
    static void match(const MatchTask& task, int64_t query_cell, float* bounds, bool resume, int64_t& budget,
                      Counts& counts, float* workspace) {
        Refine refine(task, query_cell, bounds, budget);
        refine.lay_out(workspace);
        if (refine.prepare()) {
            if (!resume) refine.count_pairs();
            if (refine.seed()) refine.sweep();
        }
        budget = refine.budget_;
        counts.pairs += refine.counts_.pairs;
        counts.exact += refine.counts_.exact;
        for (int l = 0; l < task.level_count; ++l) counts.passed[l] += refine.counts_.passed[l];
    }

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
    struct Code {
        int8_t* codes;  // (block, dims / 4, 4, 4): each four bytes four times, once for each gallery vector of a block
        Group* groups;  // (block / 4)
    };
    struct Level {
        Code projected, rotated;
        float* thresholds;  // (block): the largest of all finest positions below
        float* widened;     // one vector, float16 galleries only
        int64_t gallery;    // the position whose exact distance `exact` is, as long as it is `known`
        double exact;
        bool known;
    };

    Refine(const MatchTask& task, int64_t query_cell, float* bounds, int64_t budget)
        : task_(task),
          cell_(query_cell),
          bounds_(bounds),
          panels_((task.cells + kPanel - 1) / kPanel),
          granted_(budget),
          budget_(budget) {}

    // Places every buffer behind the other and returns the floats they take together.
    int64_t lay_out(float* base) {
        int64_t used = 0;
        const auto take = [&](int64_t floats) {
            float* place = base ? base + used : nullptr;
            used += (floats + 15) / 16 * 16;
            return place;
        };
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
        return used;
    }

    // False: nothing of this cell is scored.
    bool prepare() {
        bool any = false;
        const int64_t first = cell_ * task_.level[0].block;
        for (int64_t i = 0; i < task_.level[0].block; ++i) {
            const bool scored = task_.scored[first + i];
            level_[0].thresholds[i] = scored ? threshold(task_.best + (first + i) * task_.kappa) : -__builtin_inff();
            any |= scored;
        }
        if (!any) return false;
        for (int l = 1; l < task_.level_count; ++l)
            for (int64_t i = 0; i < task_.level[l].block; ++i) lift_threshold(l, i);
        for (int l = 0; l + 1 < task_.level_count; ++l) {
            const LevelTask& level = task_.level[l];
            expand(level.block, level.projected, level_[l].projected);
            expand(level.block, level.rotated, level_[l].rotated);
        }
        return true;
    }

    // The query's codes of one level in this cell, laid out for block_bounds.
    void expand(int64_t block, const CodeTask& task, const Code& out) {
        const int64_t first = cell_ * block;
        for (int64_t i = 0; i < block && task.dims; ++i) {
            const auto* from = reinterpret_cast<const uint32_t*>(task.query.codes + (first + i) * task.dims);
            auto* to = reinterpret_cast<uint32_t*>(out.codes + i * task.dims * kGroup);
            for (int64_t d = 0; d < task.dims / 4; ++d)
                for (int64_t v = 0; v < kGroup; ++v) to[d * kGroup + v] = from[d];
            const float* terms = task.query.terms + (first + i) * kTerms;
            Group& group = out.groups[i / 4];
            for (int64_t j = i % 4 * 4; j < i % 4 * 4 + 4; ++j) {
                group.scale[j] = -2 * terms[0];
                group.norm[j] = terms[1];
                group.error[j] = terms[2];
                group.residual[j] = terms[3];
                group.offset[j] = Op::byte_offset * task.query.sums[first + i];
            }
        }
    }

    void count_pairs() {
        each_run([&](int64_t first, int64_t last) {
            counts_.pairs += last - first;
            return true;
        });
    }

    // What no bound of a pair that may still be among the kappa nearest exceeds, roundings included.
    float threshold(const Neighbour* best) const {
        return threshold_of<Op>(best[task_.kappa - 1].distance * (1 + 0x1p-18));
    }

    float cell_threshold() const { return level_[task_.level_count - 1].thresholds[0]; }

    // A position's threshold is the largest of its children's.
    void lift_threshold(int l, int64_t i) {
        const int64_t children = task_.level[l - 1].block / task_.level[l].block;
        const float* below = level_[l - 1].thresholds + i * children;
        float largest = below[0];
        for (int64_t c = 1; c < children; ++c) largest = below[c] > largest ? below[c] : largest;
        level_[l].thresholds[i] = largest;
    }

    // --- 2. seeds

    bool seed() {
        for (int s = 0; s < kSeeds; ++s) {
            int64_t at = -1;
            float lowest = __builtin_inff();
            each_run([&](int64_t first, int64_t last) {
                at = lowest_of(first, last, lowest, at);
                return true;
            });
            if (at < 0 || !(lowest <= cell_threshold())) return true;
            if (!visit(at, false)) return false;
        }
        return true;
    }

    // Index of the smallest bound in [first, last) if it is below `lowest`, which it replaces; else `at`.
    int64_t lowest_of(int64_t first, int64_t last, float& lowest, int64_t at) const {
        int64_t i = first;
        for (; i + Op::lanes <= last; i += Op::lanes) {
            if (!Op::at_most(Op::load(bounds_ + i), Op::broadcast_value(lowest))) [[likely]]
                continue;
            for (int64_t j = i; j < i + Op::lanes; ++j)
                if (bounds_[j] < lowest) lowest = bounds_[j], at = j;
        }
        for (; i < last; ++i)
            if (bounds_[i] < lowest) lowest = bounds_[i], at = i;
        return at;
    }

    // The runs of bounds that lie within the window, image by image; stops when `visit_run` returns false.
    template <class Visit>
    bool each_run(const Visit& visit_run) const {
        for (int64_t k = 0; k < task_.image_count; ++k) {
            const int64_t base = k * panels_ * kPanel;
            if (task_.window < 0) {
                if (!visit_run(base, base + task_.cells)) return false;
                continue;
            }
            const int64_t columns = task_.cell_columns, y = cell_ / columns, x = cell_ % columns;
            const int64_t rows = task_.cells / columns, reach = task_.window;
            const int64_t top = y > reach ? y - reach : 0, bottom = rows - y > reach ? y + reach + 1 : rows;
            const int64_t left = x > reach ? x - reach : 0, right = columns - x > reach ? x + reach + 1 : columns;
            for (int64_t row = top; row < bottom; ++row)
                if (!visit_run(base + row * columns + left, base + row * columns + right)) return false;
        }
        return true;
    }

    // --- 3. sweep

    bool sweep() {
        int64_t found[kAhead];  // places that may be visited, whose codes are on their way to the cache
        int count = 0;
        const auto visit_found = [&] {
            int kept = 0;
            for (int i = 0; i < count; ++i)
                if (bounds_[found[i]] <= cell_threshold() && screen(found[i])) found[kept++] = found[i];
            count = 0;
            for (int i = 0; i < kept; ++i)
                if (bounds_[found[i]] <= cell_threshold() && (!visit(found[i], true) || hopeless(found[i])))
                    return false;
            return budget_ > 0;
        };
        const bool finished = each_run([&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i += Op::lanes) {
                uint32_t open = Op::at_most(Op::load(bounds_ + i), Op::broadcast_value(cell_threshold()));
                if (last - i < Op::lanes) open &= (1u << (last - i)) - 1;
                if (!open) [[likely]]
                    continue;
                for (; open; open &= open - 1) {
                    found[count++] = i + __builtin_ctz(open);
                    prefetch(found[count - 1]);
                }
                if (count > kAhead - Op::lanes && !visit_found()) return false;
            }
            return true;
        });
        return finished && visit_found();
    }

    // Whether refining costs far more than the dense path would, judged by the part of the gallery that was seen.
    bool hopeless(int64_t at) {
        const auto dense = static_cast<double>(task_.dense_cost), spent = static_cast<double>(granted_ - budget_);
        const double seen = static_cast<double>(at) / static_cast<double>(task_.image_count * panels_ * kPanel);
        if (spent < kPatience * dense || spent < kHopelessCost * seen * dense) return false;
        budget_ = kHopeless;
        return true;
    }

    void locate(int64_t at, int64_t& cell) {
        image_ = task_.image_ids[at / (panels_ * kPanel)];
        cell = at % (panels_ * kPanel);
    }

    // Whether a visit starts with one block of projected codes, which can be screened ahead of it.
    bool screens() const {
        const int l = task_.level_count - 2;
        return l > 0 && children(l) == kGroup;
    }

    // Starts loading the first codes that a visit reads.
    void prefetch(int64_t at) {
        const int l = task_.level_count - 2;
        if (l < 0) return;
        int64_t cell;
        locate(at, cell);
        prefetch(l > 0 ? task_.level[l].projected : task_.level[l].rotated, cell * children(l) / kGroup);
    }

    void prefetch(const CodeTask& code, int64_t group) const {
        const uint8_t* record = code.gallery + (image_ * code.groups + group) * code.record;
        for (int64_t byte = 0; byte < code.record && byte < kPrefetchBytes; byte += 64)
            __builtin_prefetch(record + byte);
    }

    // False: the projected codes rule all pairs of positions in this gallery cell out. Else the next codes are loaded.
    bool screen(int64_t at) {
        ++counts_.passed[task_.level_count - 1];
        if (!screens()) return true;
        int64_t cell;
        locate(at, cell);
        const int l = task_.level_count - 2;
        float bounds[kBlock];
        if (!block_bounds(l, task_.level[l].projected, level_[l].projected, 0, cell, bounds_[at], bounds)) {
            bounds_[at] = __builtin_inff();
            return false;
        }
        prefetch(task_.level[l].rotated, cell);
        return true;
    }

    // One gallery cell, by its place among the bounds. False: the budget is spent.
    bool visit(int64_t at, bool screened) {
        const int coarsest = task_.level_count - 1;
        int64_t cell;
        locate(at, cell);
        if (!screened) ++counts_.passed[coarsest];
        const float bound = bounds_[at];
        bounds_[at] = __builtin_inff();  // dealt with
        if (coarsest == 0) {
            decide(0, cell);
        } else {
            enter(coarsest, cell);
            descend(coarsest - 1, 0, cell, bound, screened && screens());
        }
        return budget_ > 0;
    }

    void enter(int l, int64_t gallery) {
        level_[l].gallery = gallery;
        level_[l].known = false;
    }

    // All pairs of positions of level l under a pair of the level above, whose bound is `base`.
    void descend(int l, int64_t query, int64_t gallery, float base, bool screened) {
        const int64_t groups = children(l) / kGroup;
        for (int64_t g = gallery * groups; g < (gallery + 1) * groups; ++g)
            for (int64_t q = query * groups; q < (query + 1) * groups; ++q) match_block(l, q, g, base, screened);
    }

    void match_block(int l, int64_t query_group, int64_t gallery_group, float base, bool screened) {
        const LevelTask& level = task_.level[l];
        float bounds[kBlock];
        if (level.projected.dims && !screened &&
            !block_bounds(l, level.projected, level_[l].projected, query_group, gallery_group, base, bounds))
            return;
        uint32_t open = block_bounds(l, level.rotated, level_[l].rotated, query_group, gallery_group, base, bounds);
        const float* thresholds = level_[l].thresholds + query_group * kGroup;
        if (l > 0) prefetch_below(l, gallery_group, open);
        float lift = -1;  // what exact distances of the levels above add to `base`, once known
        while (open) {    // the lowest first: it may settle the others
            int lowest = __builtin_ctz(open);
            for (uint32_t rest = open & (open - 1); rest; rest &= rest - 1)
                if (bounds[__builtin_ctz(rest)] < bounds[lowest]) lowest = __builtin_ctz(rest);
            open &= ~(1u << lowest);
            if (!(bounds[lowest] <= thresholds[lowest / 4])) continue;
            if (lift < 0) lift = lifted(l + 1, query_group * kGroup / children(l), base);
            const float bound = bounds[lowest] + lift;
            if (!(bound <= thresholds[lowest / 4])) continue;
            ++counts_.passed[l];
            const int64_t query = query_group * kGroup + lowest / 4, gallery = gallery_group * kGroup + lowest % 4;
            if (l == 0) {
                decide(query, gallery);
            } else {
                enter(l, gallery);
                descend(l - 1, query, gallery, bound, false);
            }
        }
    }

    // Starts loading the first codes below the gallery positions of a block's open pairs.
    void prefetch_below(int l, int64_t gallery_group, uint32_t open) const {
        const CodeTask& code = l > 1 ? task_.level[l - 1].projected : task_.level[l - 1].rotated;
        open |= open >> 8, open |= open >> 4;  // any query's
        for (int64_t g = 0; g < kGroup; ++g)
            if (open >> g & 1) prefetch(code, (gallery_group * kGroup + g) * children(l - 1) / kGroup);
    }

    int64_t children(int l) const { return task_.level[l].block / task_.level[l + 1].block; }

    // Bounds of four query positions by four of the gallery; one bit for each that doesn't exceed its threshold.
    uint32_t block_bounds(int l, const CodeTask& task, const Code& code, int64_t query_group, int64_t gallery_group,
                          float base, float* bounds) {
        budget_ -= kBlockCost + kBlock * task.dims;
        const uint8_t* record = task.gallery + (image_ * task.groups + gallery_group) * task.record;
        const int8_t* queries = code.codes + query_group * kGroup * task.dims * kGroup;
        const int64_t stride = task.dims * kGroup;
        typename Op::Sum sum[4] = {Op::zero_sum(), Op::zero_sum(), Op::zero_sum(), Op::zero_sum()};
        for (int64_t d = 0; d < stride; d += 4 * Op::lanes) {
            const typename Op::Codes gallery = Op::gallery_codes(record + d);
#pragma GCC unroll 4
            for (int q = 0; q < 4; ++q) Op::dot(sum[q], gallery, queries + q * stride + d);
        }
        typename Op::Int totals[kRegs];
        Op::block_totals(sum, totals);
        const Group& group = code.groups[query_group];
        const auto* terms = reinterpret_cast<const float*>(record + task.dims * kGroup);
        const Terms<Op> b{Op::tile4(terms), Op::tile4(terms + 4), Op::tile4(terms + 8), Op::tile4(terms + 12)};
        const Reg weight = Op::broadcast_value(static_cast<float>(task_.level[l].weight));
        const float* thresholds = level_[l].thresholds + query_group * kGroup;
        uint32_t open = 0;
        for (int v = 0; v < kRegs; ++v) {
            const int i = v * Op::lanes;
            const Terms<Op> a{Op::load(group.scale + i), Op::load(group.norm + i), Op::load(group.error + i),
                              Op::load(group.residual + i)};
            const Reg dot = Op::to_float(Op::sub_int(totals[v], Op::load_int(group.offset + i)));
            const Reg bound = lower_bound(a, b, dot, weight, Op::broadcast_value(base));
            Op::store(bounds + i, bound);
            open |= Op::at_most(bound, Op::repeat4(thresholds + i / 4)) << i;
        }
        return open;
    }

    // By how much the exact distance of the pair that was entered, all levels from l up, exceeds its bound.
    float lifted(int l, int64_t query, float bound) {
        double sum = 0;
        for (int k = l; k < task_.level_count; ++k)
            sum += task_.level[k].weight * exact(k, query >> (2 * (task_.level[k].shift - task_.level[l].shift)));
        const float lift = static_cast<float>(sum - static_cast<double>(bound));
        return lift > 0 ? lift : 0;
    }

    double exact(int l, int64_t query) {
        Level& level = level_[l];
        if (!level.known) level.exact = distance(l, query, level.gallery), level.known = true;
        return level.exact;
    }

    // --- 4. exact

    void decide(int64_t query, int64_t gallery) {
        const LevelTask& finest = task_.level[0];
        if (task_.raster[gallery] < 0) return;
        ++counts_.exact;
        double sum = 0;
        for (int l = 0; l < task_.level_count; ++l) {
            const double part = l == 0 ? distance(0, query, gallery) : exact(l, query >> (2 * task_.level[l].shift));
            sum += task_.level[l].weight * part;
        }
        Neighbour* best = task_.best + (cell_ * finest.block + query) * task_.kappa;
        insert<Op>(best, task_.kappa, {sum, static_cast<int32_t>(image_), static_cast<int32_t>(task_.raster[gallery])});
        const float lowered = threshold(best);
        if (!(lowered < level_[0].thresholds[query])) return;
        level_[0].thresholds[query] = lowered;
        for (int l = 1; l < task_.level_count; ++l) lift_threshold(l, query >> (2 * task_.level[l].shift));
    }

    double distance(int l, int64_t query, int64_t gallery) {
        const LevelTask& level = task_.level[l];
        budget_ -= kExactCost + kExactChannel * level.channels;
        const int64_t at = (image_ * level.positions + gallery) * level.channels;
        const float* row = static_cast<const float*>(level.gallery) + at;
        if (task_.storage == Storage::float16) {
            Op::widen(static_cast<const uint16_t*>(level.gallery) + at, level_[l].widened, level.channels);
            row = level_[l].widened;
        }
        return squared_distance<Op>(level.query + (cell_ * level.block + query) * level.channels, row, level.channels);
    }

    static constexpr int kAhead = 64;
    static constexpr int64_t kPrefetchBytes = 2304;
    // A cell is hopeless once it has cost more than this share of the dense path's work, and more than this many times
    // what the dense path would have cost for the part of the gallery that it has seen.
    static constexpr double kPatience = 0.02, kHopelessCost = 2;
    // What steps cost, in multiply-adds of the dense path.
    static constexpr int64_t kBlockCost = 1000, kExactCost = 5500, kExactChannel = 4;

    const MatchTask& task_;
    const int64_t cell_;
    float* const bounds_;
    const int64_t panels_;
    const int64_t granted_;
    int64_t image_ = 0, budget_;
    Counts counts_{};
    Level level_[kMaxLevels];
};

}  // namespace spadeline
