#include "runtime/regions.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace spadeline {
namespace {

constexpr int64_t kBlock = 64;

// Whether any of kBlock values is above `least`. Comparisons of vectors: a compiler turns each comparison of a plain
// loop into a byte first, which takes three times as long.
bool any_above(const float* values, float least) {
    using Floats = float __attribute__((vector_size(16)));
    using Ints = int32_t __attribute__((vector_size(16)));
    const Floats limit{least, least, least, least};
    Ints above[4] = {};
    for (int64_t i = 0; i < kBlock; i += 16) {
        for (int64_t k = 0; k < 4; ++k) {
            Floats four;
            std::memcpy(&four, values + i + 4 * k, sizeof four);
            above[k] |= four > limit;
        }
    }
    const Ints all = (above[0] | above[1]) | (above[2] | above[3]);
    return (all[0] | all[1] | all[2] | all[3]) != 0;
}

int64_t clamped(double value, int64_t length) {
    return std::clamp<int64_t>(static_cast<int64_t>(std::floor(value + 0.5)), 0, length - 1);
}

}  // namespace

// Eight are compared at a time, which a compiler doesn't do by itself: it must not change the order of comparisons,
// unless it knows that there is no NaN.
float highest(std::span<const float> values) {
    const auto count = static_cast<int64_t>(values.size());
    constexpr int64_t kLanes = 8;
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, values[0]);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (int64_t k = 0; k < kLanes; ++k) lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
    for (; i < count; ++i) lanes[0] = std::max(lanes[0], values[i]);
    return *std::max_element(lanes, lanes + kLanes);
}

bool mask_above(const float* map, int64_t count, double theta, uint8_t* mask) {
    const auto least = static_cast<float>(theta);
    bool any = false;
    const auto compare = [&](int64_t first, int64_t end) {
        for (int64_t i = first; i < end; ++i) mask[i] = map[i] > least;
    };
    int64_t i = 0;
    for (; i + kBlock <= count; i += kBlock) {
        if (any_above(map + i, least)) {
            any = true;
            compare(i, i + kBlock);
        } else {
            std::memset(mask + i, 0, kBlock);  // most of a map, and all of most maps
        }
    }
    compare(i, count);
    return any || std::memchr(mask + i, 1, count - i);
}

Box frame_box(const Box& box, const Placement& placement, PictureSize frame) {
    const auto [top, left] =
        placement.to_frame(static_cast<double>(box.top) - 0.5, static_cast<double>(box.left) - 0.5);
    const auto [bottom, right] =
        placement.to_frame(static_cast<double>(box.bottom) - 0.5, static_cast<double>(box.right) - 0.5);
    const auto begin = [](double centre) {
        return std::max<int64_t>(static_cast<int64_t>(std::floor(centre + 0.5 + kEdgeRounding)), 0);
    };
    const auto end = [](double centre, int64_t length) {
        return std::min(static_cast<int64_t>(std::ceil(centre + 0.5 - kEdgeRounding)), length);
    };
    return {begin(top), begin(left), end(bottom, frame.height), end(right, frame.width)};
}

RegionFinder::RegionFinder(MapSize map) : map_(map) {
    // The most that there can be: every second pixel of a row, and of every second row. What isn't used isn't touched.
    const int64_t most = (map.width + 1) / 2;
    runs_.reserve(map.height * most);
    roots_.reserve((map.height + 1) / 2 * most);
    regions_.reserve((map.height + 1) / 2 * most);
}

std::span<const Region> RegionFinder::find(const float* map, const uint8_t* mask, const Placement& placement,
                                           PictureSize frame) {
    runs_.clear();
    roots_.clear();
    regions_.clear();
    const int64_t pixels = map_.height * map_.width;
    const auto* first = static_cast<const uint8_t*>(std::memchr(mask, 1, pixels));  // most frames have none
    if (!first) return {};
    int64_t above = 0;  // the first run of the row before
    for (int64_t row = (first - mask) / map_.width; row < map_.height; ++row) {
        const auto begin = static_cast<int64_t>(runs_.size());
        add_runs(map, mask, row);
        join_rows(above, begin);
        above = begin;
    }
    for (int64_t i = 0; i < static_cast<int64_t>(runs_.size()); ++i) {
        Run& region = runs_[root(i)];
        if (region.peak >= 0 || runs_[i].highest != region.score) continue;
        const float* line = map + runs_[i].row * map_.width;
        region.peak = std::find(line + runs_[i].first, line + runs_[i].end, region.score) - map;
        roots_.push_back(&region - runs_.data());
    }
    std::sort(roots_.begin(), roots_.end(), [&](int64_t a, int64_t b) {
        return runs_[a].score != runs_[b].score ? runs_[a].score > runs_[b].score : runs_[a].peak < runs_[b].peak;
    });
    for (const int64_t i : roots_) {
        const Run& region = runs_[i];
        const auto [y, x] = placement.to_frame(static_cast<double>(region.peak / map_.width),
                                               static_cast<double>(region.peak % map_.width));
        regions_.push_back({region.area, frame_box(region.box, placement, frame), clamped(y, frame.height),
                            clamped(x, frame.width), region.score});
    }
    return regions_;
}

void RegionFinder::add_runs(const float* map, const uint8_t* mask, int64_t row) {
    const uint8_t* line = mask + row * map_.width;
    const uint8_t* end = line + map_.width;
    for (const uint8_t* next = line; next < end;) {
        const auto* first = static_cast<const uint8_t*>(std::memchr(next, 1, end - next));
        if (!first) break;
        const auto* found = static_cast<const uint8_t*>(std::memchr(first, 0, end - first));
        next = found ? found : end;
        const int64_t left = first - line, right = next - line;
        const float score = highest({map + row * map_.width + left, static_cast<size_t>(right - left)});
        runs_.push_back({static_cast<int64_t>(runs_.size()), row, left, right, score, score, right - left,
                         Box{row, left, row + 1, right}, -1});
    }
}

// Joins the runs of two rows, one beside the other, that touch; corners do, too.
void RegionFinder::join_rows(int64_t upper, int64_t lower) {
    const auto end = static_cast<int64_t>(runs_.size());
    for (int64_t i = lower, above = upper; i < end; ++i) {
        while (above < lower && runs_[above].end < runs_[i].first) ++above;
        for (int64_t j = above; j < lower && runs_[j].first <= runs_[i].end; ++j) join(j, i);
    }
}

int64_t RegionFinder::root(int64_t run) {
    while (runs_[run].parent != run) run = runs_[run].parent = runs_[runs_[run].parent].parent;
    return run;
}

void RegionFinder::join(int64_t a, int64_t b) {
    const auto [first, later] = std::minmax({root(a), root(b)});
    if (first == later) return;
    Run &into = runs_[first], &from = runs_[later];
    from.parent = first;
    into.score = std::max(into.score, from.score);
    into.area += from.area;
    into.box = {std::min(into.box.top, from.box.top), std::min(into.box.left, from.box.left),
                std::max(into.box.bottom, from.box.bottom), std::max(into.box.right, from.box.right)};
}

}  // namespace spadeline
