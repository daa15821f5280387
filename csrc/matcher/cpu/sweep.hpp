// Steps 3 and 4 of the pruned path: which gallery cells are visited, and in which order. These are members of Refine.
//
//   3. seeds: the gallery cells of the lowest bounds come first, and give the first thresholds;
//   4. sweep: then all others whose bound doesn't exceed the query cell's threshold, which falls from visit to visit.
//
// The sweep collects a few cells at a time, so that their codes are on their way to the cache before they are read.
#pragma once

#include <cstdint>

#include "matcher/cpu/refine.hpp"

namespace spadeline {

template <class Op>
bool Refine<Op>::seed() {
    const int64_t seeds = task_.visits ? task_.visits : kSeeds;
    for (int64_t k = 0; k < task_.image_count; ++k) find_lowest(k);
    for (int64_t s = 0; s < seeds; ++s) {
        if (!(cell_threshold() >= 0)) return false;  // nothing is asked for any more
        float lowest = __builtin_inff();
        const int64_t k = lowest_of(lowest_, 0, task_.image_count, lowest);
        if (k < 0 || !(lowest <= cell_threshold())) return true;
        visit({lowest_at_[k], k}, false);
        if (spent(0)) return false;
        find_lowest(k);
    }
    return true;
}

// Finds the smallest bound of the k-th image's cells that aren't visited yet.
template <class Op>
void Refine<Op>::find_lowest(int64_t k) {
    lowest_[k] = __builtin_inff();
    each_run(k, [&](int64_t, int64_t first, int64_t last) {
        const int64_t at = lowest_of(bounds_, first, last, lowest_[k]);
        if (at >= 0) lowest_at_[k] = at;
        return true;
    });
}

// Returns where the smallest of values[first … last) is if it is below `lowest`, which it then replaces; else -1.
template <class Op>
int64_t Refine<Op>::lowest_of(const float* values, int64_t first, int64_t last, float& lowest) {
    int64_t i = first, at = -1;
    for (; i + Op::lanes <= last; i += Op::lanes) {
        if (!Op::at_most(Op::load(values + i), Op::broadcast_value(lowest))) [[likely]]
            continue;
        for (int64_t j = i; j < i + Op::lanes; ++j)
            if (values[j] < lowest) lowest = values[j], at = j;
    }
    for (; i < last; ++i)
        if (values[i] < lowest) lowest = values[i], at = i;
    return at;
}

// Calls visit_run for each run of the k-th image's bounds that lies within the window, until it returns false.
template <class Op>
template <class Visit>
bool Refine<Op>::each_run(int64_t k, const Visit& visit_run) const {
    const int64_t base = k * panels_ * kPanel;
    if (task_.window < 0) return visit_run(k, base, base + task_.cells);
    const int64_t columns = task_.cell_columns, y = cell_ / columns, x = cell_ % columns;
    const int64_t rows = task_.cells / columns, reach = task_.window;
    const int64_t top = y > reach ? y - reach : 0, bottom = rows - y > reach ? y + reach + 1 : rows;
    const int64_t left = x > reach ? x - reach : 0, right = columns - x > reach ? x + reach + 1 : columns;
    for (int64_t row = top; row < bottom; ++row)
        if (!visit_run(k, base + row * columns + left, base + row * columns + right)) return false;
    return true;
}

// Visits the k-th image's gallery cells. Returns false if the budget is spent.
template <class Op>
bool Refine<Op>::sweep(int64_t k) {
    if (!(cell_threshold() >= 0)) return false;  // nothing is asked for any more
    Place found[kAhead];                         // cells that may be visited; their codes are being fetched
    int count = 0;
    const auto visit_found = [&] {
        int kept = 0;
        for (int i = 0; i < count; ++i)
            if (bounds_[found[i].at] <= cell_threshold() && screen(found[i])) found[kept++] = found[i];
        count = 0;
        for (int i = 0; i < kept; ++i) {
            if (!(bounds_[found[i].at] <= cell_threshold())) continue;
            visit(found[i], true);
            if (spent(found[i].at)) return false;
        }
        return budget_ > 0;
    };
    const bool finished = each_run(k, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; i += Op::lanes) {
            uint32_t open = open_at(i, last);
            if (!open) [[likely]]
                continue;
            for (; open; open &= open - 1) {
                found[count] = {i + __builtin_ctz(open), k};
                prefetch(found[count++]);
            }
            if (count > kAhead - Op::lanes && !visit_found()) return false;
        }
        return true;
    });
    return finished && visit_found();
}

// Returns one bit for each of the `lanes` bounds from i on, up to `last`, that doesn't exceed the cell's threshold.
template <class Op>
uint32_t Refine<Op>::open_at(int64_t i, int64_t last) const {
    if (last - i >= Op::lanes) return Op::at_most(Op::load(bounds_ + i), Op::broadcast_value(cell_threshold()));
    uint32_t open = 0;
    for (int64_t j = i; j < last; ++j) open |= static_cast<uint32_t>(bounds_[j] <= cell_threshold()) << (j - i);
    return open;
}

// Visits one gallery cell.
template <class Op>
void Refine<Op>::visit(const Place& place, bool screened) {
    const int coarsest = task_.level_count - 1;
    const int64_t cell = locate(place);
    if (!screened) ++counts_.passed[coarsest];
    const float bound = bounds_[place.at];
    bounds_[place.at] = __builtin_inff();  // visited
    if (coarsest == 0) {
        decide(0, cell);
    } else {
        enter(coarsest, cell);
        descend(coarsest - 1, 0, cell, bound, screened && screens());
    }
}

// Whether the budget is spent, or the cell hopeless: see kPatience. `at`: how much of the gallery has been seen.
template <class Op>
bool Refine<Op>::spent(int64_t at) {
    const auto dense = static_cast<double>(task_.dense_cost), cost = static_cast<double>(granted_ - budget_);
    const double seen = static_cast<double>(at) / static_cast<double>(task_.image_count * panels_ * kPanel);
    if (budget_ < next_look_) {
        next_look_ = budget_ - kBetweenLooks;
        if (passed(task_.expiry)) budget_ = 0;
    }
    if (cost > kPatience * dense && cost > kHopelessCost * seen * dense) budget_ = kHopeless;
    return budget_ <= 0;
}

// Whether a visit starts with one block of projected codes, which can be screened ahead of it.
template <class Op>
bool Refine<Op>::screens() const {
    const int l = task_.level_count - 2;
    return l > 0 && children(l) == kGroup;
}

// Starts loading the first codes that a visit reads.
template <class Op>
void Refine<Op>::prefetch(const Place& place) {
    const int l = task_.level_count - 2;
    if (l < 0) return;
    const int64_t cell = locate(place);
    prefetch(l > 0 ? task_.level[l].projected : task_.level[l].rotated, cell * children(l) / kGroup);
}

template <class Op>
void Refine<Op>::prefetch(const CodeTask& code, int64_t group) const {
    const uint8_t* record = code.gallery + (image_ * code.groups + group) * code.record;
    for (int64_t byte = 0; byte < code.record && byte < kPrefetchBytes; byte += 64) __builtin_prefetch(record + byte);
}

// Returns false if the projected codes rule out all pairs of positions in this gallery cell. Else fetches the next
// codes.
template <class Op>
bool Refine<Op>::screen(const Place& place) {
    ++counts_.passed[task_.level_count - 1];
    if (!screens()) return true;
    const int64_t cell = locate(place);
    const int l = task_.level_count - 2;
    float bounds[kBlock];
    if (!block_bounds(l, task_.level[l].projected, level_[l].projected, 0, cell, bounds_[place.at], bounds)) {
        bounds_[place.at] = __builtin_inff();
        return false;
    }
    prefetch(task_.level[l].rotated, cell);
    return true;
}

}  // namespace spadeline
