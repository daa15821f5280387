#include "matcher/rounds.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

namespace spadeline {
namespace {

// The nearest images, which are searched first.
constexpr int64_t kNearImages = 3;
// A position stops in them once its distance is at most the first part of theta. Less leaves more for later rounds,
// more leaves maps that are too close to theta. In all images it stops at the second part: there it lies about a peak,
// where each position's own value counts.
constexpr double kEnough = 0.9, kEnoughOfAll = 0.6;
// Gallery cells that a query cell visits in the nearest images and in all images. More of them hardly lower the map.
constexpr int64_t kNearVisits = 8, kVisits = 64;
// Up to this part of theta an upper map may well be a normal one whose nearest distances aren't found yet. So the most
// likely cells of all images are searched before a proof.
constexpr double kNearMiss = 1.5;
// A mask with more open positions than this part of all is tried with every sixth row of cells first; cells in a row
// are encoded faster than single ones. Where fewer than the second part of these positions stop, theta lies inside the
// map, and most distances are needed anyway.
constexpr double kManyOpen = 0.3, kFewStop = 0.65;
constexpr int64_t kSampledRow = 6;
constexpr int64_t kProofs = 3;  // peaks at which a defect is looked for, one after the other
// What a proof's caps would give at the peak, in parts of theta.
constexpr double kMargin = 1.05;
// More cells are taken until the caps are this part of the distances found so far. Caps above the second part of them
// save nothing: then all distances are found, of as many cells as it takes.
constexpr double kSaving = 0.7, kLeastSaving = 0.9;
// What pruning may cost in a proof, as a part of the dense path's work: see Pass. A proof has a few cells, for which
// the dense path would read the whole gallery.
constexpr double kProofShare = 4;
// A distance that a bound or a cap rules out may be smaller by its own roundings in float64.
constexpr double kRoundings = 1 - 0x1p-20;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Fills in for each row of the distances the first and one past the last row of the map that depends on it.
template <class Support>
void inverse(int64_t map_rows, const Support& support, std::vector<std::pair<int64_t, int64_t>>& rows) {
    std::fill(rows.begin(), rows.end(), std::pair(map_rows, int64_t{0}));
    for (int64_t y = 0; y < map_rows; ++y) {
        const auto [first, last] = support(y);
        for (int64_t row = first; row < last; ++row) {
            rows[row].first = std::min(rows[row].first, y);
            rows[row].second = std::max(rows[row].second, y + 1);
        }
    }
}

}  // namespace

Rounds::Rounds(Search& search)
    : search_(search),
      shape_(search.shape()),
      complete_(shape_.positions(0)),
      positions_(shape_.positions(0)),
      caps_(shape_.positions(0)),
      proven_(shape_.positions(0)),
      position_of_(shape_.levels()[0].pixels()),
      bounds_(position_of_.size()),
      values_(position_of_.size()),
      ignored_(position_of_.size()),
      map_rows_(shape_.levels()[0].height),
      map_columns_(shape_.levels()[0].width) {
    parts_.reserve(shape_.cells());
    const std::vector<int64_t>& raster = shape_.raster(0);
    for (size_t i = 0; i < raster.size(); ++i)
        if (raster[i] >= 0) position_of_[raster[i]] = static_cast<int64_t>(i);
}

Outcome Rounds::run(const Request& request, const Goal& goal, ThreadPool* pool) {
    goal_ = &goal;
    outcome_ = {};
    images_ = static_cast<int64_t>(request.image_ids.size());
    kappa_ = request.kappa;
    for (size_t i = 0; i < ignored_.size(); ++i) ignored_[i] = request.ignore && request.ignore[i];
    std::fill(complete_.begin(), complete_.end(), uint8_t{0});
    std::fill(proven_.begin(), proven_.end(), 0.0);
    lower_stale_ = false;
    const MapSize size = goal.heatmap->map();
    std::fill_n(goal.lower, size.height * size.width, 0.0f);

    const bool all = goal.need == Need::map || !search_.pruned();
    bool in_time = search_.begin(request, pool, goal.expiry, all ? Glance{} : glance());
    if (in_time && all) in_time = search_all(pool);
    if (in_time && !all) ++outcome_.passes;
    make_upper(pool);
    if (in_time && !all && !decided()) in_time = narrow(pool);
    if (in_time && !all && !decided()) in_time = search_undecided(pool);
    make_lower(pool);
    outcome_.decided = in_time || (goal.need != Need::map && decided());
    search_.finish(true, pool);
    outcome_.statistics = search_.statistics();
    return outcome_;
}

bool Rounds::search_all(ThreadPool* pool) { return pass({images_, search_.scored()}, pool); }

// Step 1: as many images as kappa distances need, at least.
Glance Rounds::glance() const { return {std::min(images_, std::max(kNearImages, kappa_)), enough()}; }

// Steps 2 to 4. Returns false if time is up.
bool Rounds::narrow(ThreadPool* pool) {
    bool worthwhile = true, likely = false;
    if (!search_near(worthwhile, pool)) return false;
    for (int64_t proofs = 0; worthwhile && !decided() && proofs < kProofs;) {
        if (!likely && *peak_pixel() < kNearMiss * goal_->normal) {
            if (!search_likely(pool)) return false;
            likely = true;
        } else if (goal_->need == Need::label) {
            if (!prove(pool)) return false;
            ++proofs;
        } else {
            break;
        }
    }
    return true;
}

// The open positions in the nearest images. It isn't `worthwhile` to go on if a sample of many shows that most of them
// stay open: then theta lies inside the map.
bool Rounds::search_near(bool& worthwhile, ThreadPool* pool) {
    const Pass pass{std::min(images_, kNearImages), positions_.data(), nullptr, enough(), kNoGuard, kNearVisits};
    const auto keep = [&](bool sampled) {
        const int64_t block = shape_.block(0), columns = shape_.cell_columns();
        for (int64_t cell = 0; cell < shape_.cells(); ++cell)
            if ((cell / columns % kSampledRow == kSampledRow / 2) != sampled)
                std::fill_n(positions_.begin() + cell * block, block, uint8_t{0});
    };
    const int64_t open = take_open(enough());
    if (goal_->need == Need::mask && static_cast<double>(open) > kManyOpen * static_cast<double>(positions_.size())) {
        keep(true);
        const auto sample = std::count(positions_.begin(), positions_.end(), uint8_t{1});
        const bool in_time = this->pass(pass, pool);
        worthwhile = static_cast<double>(count_open(enough())) < (1 - kFewStop) * static_cast<double>(sample);
        if (!in_time || !worthwhile) return in_time;
        take_open(enough());
        keep(false);
    }
    const bool in_time = this->pass(pass, pool);
    make_upper(pool);
    return in_time;
}

// The open positions in those cells of all images that their bounds make most likely.
bool Rounds::search_likely(ThreadPool* pool) {
    const double enough = distance_of(kEnoughOfAll * goal_->normal);
    take_open(enough);
    const bool in_time = pass({images_, positions_.data(), nullptr, enough, kNoGuard, kVisits}, pool);
    make_upper(pool);
    return in_time;
}

// What a position enters the map's upper bound with.
double Rounds::upper_value(int64_t position) const {
    const double distance = mean_distance(search_.best(position), kappa_);
    return std::min(goal_->root ? std::sqrt(distance) : distance, kLargestDistance);
}

// Looks for a proof that the map is above theta at its upper bound's peak: all images are searched from the cells that
// add most to the peak, and only as far as the proof needs. As many cells are taken as it takes for caps that are well
// below the distances found so far. Where there are not enough of them, the peak's own value is found.
bool Rounds::prove(ThreadPool* pool) {
    const Heatmap& heatmap = *goal_->heatmap;
    const MapSize size = heatmap.map();
    const float* highest = peak_pixel();
    const int64_t y = (highest - goal_->upper) / size.width, x = (highest - goal_->upper) % size.width;
    const auto rows = heatmap.rows_of(y), columns = heatmap.columns_of(x);
    const LevelShape& finest = shape_.levels()[0];
    // The weights of rows and columns in the peak, but for the factor that makes their sum 1, and roughly: they choose.
    const auto weigh = [&](int64_t i, int64_t count, int64_t map_count, int64_t at) {
        const double scale = static_cast<double>(map_count) / static_cast<double>(count);
        const double spread = static_cast<double>(heatmap.radius()) / 4 + scale / 2;
        const double away = ((static_cast<double>(i) + 0.5) * scale - 0.5 - static_cast<double>(at)) / spread;
        return std::exp(-away * away / 2);
    };
    parts_.clear();
    double total = 0, known = 0;
    for (int64_t row = rows.first; row < rows.second; ++row) {
        for (int64_t column = columns.first; column < columns.second; ++column) {
            const int64_t i = position_of_[row * finest.width + column];
            if (ignored_[row * finest.width + column]) continue;
            const double part =
                weigh(row, finest.height, size.height, y) * weigh(column, finest.width, size.width, x) * upper_value(i);
            total += part;
            if (complete_[i]) {
                known += part;
                continue;
            }
            const int64_t cell = i / shape_.block(0);
            auto of_cell = std::find_if(parts_.begin(), parts_.end(), [&](const Part& p) { return p.cell == cell; });
            if (of_cell == parts_.end()) of_cell = parts_.insert(parts_.end(), {cell, 0});
            of_cell->part += part;
        }
    }
    if (parts_.empty()) return true;
    std::sort(parts_.begin(), parts_.end(), [](const Part& a, const Part& b) { return a.part > b.part; });
    const double needed = std::max(kMargin * goal_->normal / *highest * total - known, 0.0);
    double taken = 0, part = 1;
    size_t cells = 0;
    for (const double saving : {kSaving, kLeastSaving, 1.0}) {
        taken = 0;
        for (cells = 0; cells < parts_.size() && (cells == 0 || needed > saving * taken); ++cells)
            taken += parts_[cells].part;
        part = needed / taken;
        if (part <= saving) break;
    }
    const bool capped = part <= kLeastSaving;
    std::fill(positions_.begin(), positions_.end(), uint8_t{0});
    for (int64_t row = rows.first; row < rows.second; ++row) {
        for (int64_t column = columns.first; column < columns.second; ++column) {
            const int64_t i = position_of_[row * finest.width + column], cell = i / shape_.block(0);
            if (ignored_[row * finest.width + column] || complete_[i]) continue;
            const auto last = parts_.begin() + static_cast<int64_t>(cells);
            if (std::none_of(parts_.begin(), last, [&](const Part& p) { return p.cell == cell; })) continue;
            positions_[i] = 1;
            caps_[i] = static_cast<float>(std::min(distance_of(part * upper_value(i)), kLargestDistance));
        }
    }
    const bool in_time = pass({images_, positions_.data(), capped ? caps_.data() : nullptr, -1, kProofShare}, pool);
    make_upper(pool);
    make_lower(pool);
    return in_time;
}

// Finds all distances of the positions that undecided pixels depend on.
bool Rounds::search_undecided(ThreadPool* pool) {
    take_undecided();
    const bool in_time = pass({images_, positions_.data()}, pool);
    make_upper(pool);
    return in_time;
}

// Takes the positions that undecided pixels depend on, of those whose distance isn't known.
void Rounds::take_undecided() {
    const Heatmap& heatmap = *goal_->heatmap;
    const MapSize size = heatmap.map();
    const int64_t stride = size.width + 1;
    undecided_.resize((size.height + 1) * stride);
    std::fill(undecided_.begin(), undecided_.end(), 0);
    for (int64_t y = 0; y < size.height; ++y) {
        int32_t in_row = 0;
        for (int64_t x = 0; x < size.width; ++x) {
            in_row += undecided(y * size.width + x);
            undecided_[(y + 1) * stride + x + 1] = undecided_[y * stride + x + 1] + in_row;
        }
    }
    const LevelShape& finest = shape_.levels()[0];
    inverse(size.height, [&](int64_t y) { return heatmap.rows_of(y); }, map_rows_);
    inverse(size.width, [&](int64_t x) { return heatmap.columns_of(x); }, map_columns_);
    std::fill(positions_.begin(), positions_.end(), uint8_t{0});
    for (int64_t row = 0; row < finest.height; ++row) {
        const auto [top, bottom] = map_rows_[row];
        for (int64_t column = 0; column < finest.width; ++column) {
            const auto [left, right] = map_columns_[column];
            const int64_t i = position_of_[row * finest.width + column];
            if (ignored_[row * finest.width + column] || complete_[i] || top >= bottom || left >= right) continue;
            positions_[i] = undecided_[bottom * stride + right] - undecided_[top * stride + right] -
                                undecided_[bottom * stride + left] + undecided_[top * stride + left] >
                            0;
        }
    }
}

// Takes those of them whose distance is above `enough`, and returns their number.
int64_t Rounds::take_open(double enough) {
    take_undecided();
    for (size_t i = 0; i < positions_.size(); ++i)
        positions_[i] = positions_[i] && mean_distance(search_.best(static_cast<int64_t>(i)), kappa_) > enough;
    return count_open(enough);
}

// How many of the positions taken are above `enough`.
int64_t Rounds::count_open(double enough) const {
    int64_t open = 0;
    for (size_t i = 0; i < positions_.size(); ++i)
        open += positions_[i] && mean_distance(search_.best(static_cast<int64_t>(i)), kappa_) > enough;
    return open;
}

// One pass, and what it proved.
bool Rounds::pass(const Pass& pass, ThreadPool* pool) {
    ++outcome_.passes;
    if (!search_.pass(pass, pool)) return false;
    if (pass.images < images_ || pass.visits) return true;  // there may be something nearer elsewhere
    lower_stale_ = true;
    for (size_t i = 0; i < complete_.size(); ++i) {
        if (!pass.positions[i]) continue;
        const Neighbour* best = search_.best(static_cast<int64_t>(i));
        const double mean = mean_distance(best, kappa_);
        if (!pass.caps || best[kappa_ - 1].distance <= pass.caps[i]) {
            if (!std::isfinite(mean))
                throw std::runtime_error("gallery: expected finite features, got NaN or infinity");
            complete_[i] = 1;
            outcome_.largest = std::max(outcome_.largest, goal_->root ? std::sqrt(mean) : mean);
            continue;
        }
        double sum = 0;
        for (int64_t k = 0; k < kappa_; ++k) sum += std::min(best[k].distance, static_cast<double>(pass.caps[i]));
        proven_[i] = std::max(proven_[i], sum / static_cast<double>(kappa_) * kRoundings);
    }
    return true;
}

void Rounds::make_upper(ThreadPool* pool) {
    for (size_t at = 0; at < bounds_.size(); ++at)
        bounds_[at] = ignored_[at] ? 0 : mean_distance(search_.best(position_of_[at]), kappa_);
    make(goal_->upper, pool);
}

// Until a pass proves something, it is the map of zeros that it has been from the start.
void Rounds::make_lower(ThreadPool* pool) {
    if (!lower_stale_) return;
    lower_stale_ = false;
    for (size_t at = 0; at < bounds_.size(); ++at) {
        const int64_t i = position_of_[at];
        bounds_[at] = ignored_[at] ? 0 : complete_[i] ? mean_distance(search_.best(i), kappa_) : proven_[i];
    }
    make(goal_->lower, pool);
}

void Rounds::make(float* map, ThreadPool* pool) {
    const double start = seconds();
    const Heatmap& heatmap = *goal_->heatmap;
    map_values(bounds_.data(), static_cast<int64_t>(bounds_.size()), goal_->root, ignored_.data(), values_.data());
    heatmap.make(values_.data(), map, workspace_.reserve(heatmap.floats()), pool);
    outcome_.map_seconds += seconds() - start;
}

bool Rounds::undecided(int64_t pixel) const {
    return goal_->upper[pixel] > goal_->normal && !(goal_->lower[pixel] > goal_->anomalous);
}

bool Rounds::decided() const {
    const MapSize size = goal_->heatmap->map();
    const int64_t pixels = size.height * size.width;
    const float *upper = goal_->upper, *lower = goal_->lower;
    const float normal = goal_->normal, anomalous = goal_->anomalous;
    int32_t undecided = 0, proven = 0;  // counted without branches, many pixels at once
    for (int64_t i = 0; i < pixels; ++i) {
        undecided += (upper[i] > normal) & !(lower[i] > anomalous);
        proven += lower[i] > anomalous;
    }
    return undecided == 0 || (goal_->need == Need::label && proven > 0);
}

const float* Rounds::peak_pixel() const {
    const MapSize size = goal_->heatmap->map();
    return std::max_element(goal_->upper, goal_->upper + size.height * size.width);
}

double Rounds::enough() const { return distance_of(kEnough * goal_->normal); }

double Rounds::distance_of(double value) const { return goal_->root ? value * value : value; }

}  // namespace spadeline
