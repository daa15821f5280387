#include "library/inspector.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "library/errors.hpp"
#include "library/resources.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"

namespace spadeline {
namespace {

constexpr double kLongestDeadline = 86400;  // seconds; a later one is as good as none

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool is_past(const void* deadline) { return now() >= *static_cast<const double*>(deadline); }

const Kernels& kernels() { return kernels_named(asked_instruction_set()); }

MapSize finest_size(const LoadedRecipe& recipe) {
    return {recipe.geometry().levels[0].height, recipe.geometry().levels[0].width};
}

MapSize map_size(const LoadedRecipe& recipe) { return {recipe.geometry().height, recipe.geometry().width}; }

// Two float32 numbers: up to the first a pixel is normal, above the second it is anomalous. A mask compares the map
// with theta in float32, a label compares its maximum in float64. The two differ at one number at most, where theta is
// rounded up. So between the two numbers, a pixel needs its own value.
std::pair<float, float> decisive(double theta) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    const auto rounded = static_cast<float>(std::clamp(theta, -kLargest, kLargest));
    const bool up = static_cast<double>(rounded) > theta;
    return {up ? std::nextafter(rounded, -std::numeric_limits<float>::infinity()) : rounded, rounded};
}

void check_largest(double distance) {
    if (distance <= kLargestDistance) return;  // NaN, too, fails this
    char text[200];
    std::snprintf(
        text, sizeof text,
        "distances: expected numbers up to %.3g, which a map of float32 holds, got %.3g: the frame's features "
        "are beyond comparison with the normal images'",
        kLargestDistance, distance);
    throw InputError(text);
}

}  // namespace

Inspector::Inspector(std::shared_ptr<const LoadedRecipe> recipe, int threads)
    : recipe_(std::move(recipe)),
      extractor_(recipe_->extractor(threads)),
      pruned_(!recipe_->gallery().levels().codes.empty() && recipe_->settings().upsampling == Upsampling::nearest),
      matcher_(recipe_->geometry().pyramid(), recipe_->gallery().levels(), threads, asked_instruction_set(),
               recipe_->settings().upsampling),
      preparation_(kernels(), recipe_->settings().framing, recipe_->input(), threads),
      meter_(kernels(), recipe_->input(), recipe_->ignore()),
      extraction_(extractor_),
      retrieval_(recipe_->gallery().embeddings(), static_cast<int64_t>(recipe_->manifest().images.size()),
                 recipe_->geometry().embedding_size, recipe_->index()),
      heatmap_(kernels(), finest_size(*recipe_), map_size(*recipe_), recipe_->settings().sigma, recipe_->ignore(),
               recipe_->ignored_distances()),
      map_pool_(threads),
      finder_(map_size(*recipe_)) {
    const LevelShape& finest = recipe_->geometry().levels[0];
    const PictureSize input = recipe_->input();
    nearest_.reserve(static_cast<size_t>(std::min(recipe_->settings().k_gallery, retrieval_.count())));
    distances_.resize(static_cast<size_t>(finest.pixels()));
    values_.resize(distances_.size());
    neighbours_.resize(distances_.size() * static_cast<size_t>(recipe_->settings().kappa) * 3);
    workspace_.reserve(heatmap_.floats());
    upper_.resize(static_cast<size_t>(input.height * input.width));
    lower_.resize(upper_.size());
    mask_.resize(upper_.size());
}

const Result& Inspector::inspect(const FrameView& frame, const Asked& asked) {
    const StandardArithmetic arithmetic;
    const Time start = now();
    result_.need = asked.need;
    result_.decided = true;
    result_.warning.reset();
    const Placement placement = preparation_.prepare(frame, extraction_.image());
    if (recipe_->settings().frame_shape != FrameShapeRule::any) {
        result_.warning = recipe_->shapes().complaint(frame.size());
        if (result_.warning && recipe_->settings().frame_shape == FrameShapeRule::error)
            throw InputError(*result_.warning);
    }
    if (recipe_->limits()) known_.facts = meter_.measure(extraction_.image());
    const Time prepared = now();
    extraction_.run();
    const Time extracted = now();
    result_.timings = {prepared - start, extracted - prepared, 0, 0, 0};
    retrieve();
    result_.timings.retrieve_s = now() - extracted;
    const bool label_alone = asked.need == Need::label && recipe_->judge().label_known(known_);
    if (label_alone) {
        skip_search(true);
    } else {
        search(asked, start);
    }
    const Time matched = now();
    judge(frame, placement, label_alone);
    result_.timings.map_s += now() - matched;
    return result_;
}

void Inspector::retrieve() {
    const Settings& settings = recipe_->settings();
    const std::span<const NearImage> found =
        retrieval_.nearest(extraction_.embedding(), std::max(settings.k_score, settings.k_gallery));
    const auto first = [&](int64_t k) { return found.first(std::min(static_cast<size_t>(k), found.size())); };
    known_.image_score = image_score(first(settings.k_score), settings.root);
    known_.nearest_distance = found[0].squared;
    nearest_.clear();
    for (const NearImage& near : first(settings.k_gallery)) nearest_.push_back(near.image);
    result_.image_score = known_.image_score;
    result_.nearest_images = nearest_;
}

Request Inspector::request() {
    const Settings& settings = recipe_->settings();
    Request request{};
    request.levels = extraction_.levels();
    request.image_ids = nearest_;
    request.kappa = settings.kappa;
    request.window = settings.window;
    request.ignore = recipe_->ignored_distances();
    request.distances = distances_.data();
    request.neighbours = neighbours_.data();
    return request;
}

void Inspector::search(const Asked& asked, Time start) {
    const bool limited = asked.deadline_s && *asked.deadline_s < kLongestDeadline;
    const Time deadline = limited ? start + *asked.deadline_s : std::numeric_limits<double>::infinity();
    try {
        if (limited && now() >= deadline) {
            skip_search(false);
        } else if (asked.need == Need::map && !limited) {
            search_all();
        } else {
            search_needed(asked, deadline);
        }
    } catch (const NotFinite& bad) {
        throw InputError("query level " + std::to_string(bad.level) +
                         ": expected finite features, got NaN or infinity at (channel, y, x) = (" +
                         std::to_string(bad.channel) + ", " + std::to_string(bad.y) + ", " + std::to_string(bad.x) +
                         ")");
    }
    if (!std::isfinite(result_.map_score))
        throw InputError("anomaly map: expected finite numbers, got others: no verdict can be given");
}

void Inspector::search_all() {
    const Time start = now();
    result_.statistics = matcher_.match(request());
    result_.passes = 1;
    const Time matched = now();
    const auto count = static_cast<int64_t>(distances_.size());
    check_largest(
        map_values(distances_.data(), count, recipe_->settings().root, recipe_->ignored_distances(), values_.data()));
    heatmap_.make(values_.data(), upper_.data(), workspace_.data(), &map_pool_);
    result_.map = result_.lower_map = upper_.data();
    result_.map_score = highest(upper_);
    result_.timings.match_s = matched - start;
    result_.timings.map_s = now() - matched;
}

void Inspector::search_needed(const Asked& asked, Time deadline) {
    const Time start = now();
    const auto [normal, anomalous] = decisive(recipe_->theta());
    Goal goal{&heatmap_, asked.need, recipe_->settings().root, normal, anomalous, {}, upper_.data(), lower_.data()};
    if (std::isfinite(deadline)) goal.expiry = {is_past, &deadline};
    const Outcome outcome = matcher_.inspect(request(), goal);
    check_largest(outcome.largest);
    result_.statistics = outcome.statistics;
    result_.passes = outcome.passes;
    result_.decided = outcome.decided;
    result_.map = upper_.data();
    result_.lower_map = lower_.data();
    result_.map_score = highest(upper_);
    result_.timings.match_s = now() - start - outcome.map_seconds;
    result_.timings.map_s = outcome.map_seconds;
}

// What is known without matching pixels: the bounds that hold for any map.
void Inspector::skip_search(bool decided) {
    std::fill(upper_.begin(), upper_.end(), static_cast<float>(kLargestDistance));
    if (const uint8_t* ignore = recipe_->ignore())
        for (size_t i = 0; i < upper_.size(); ++i)
            if (ignore[i]) upper_[i] = 0;
    std::fill(lower_.begin(), lower_.end(), 0.0f);
    std::fill(neighbours_.begin(), neighbours_.end(), -1);
    result_.statistics = {};
    result_.passes = 0;
    result_.decided = decided;
    result_.map = upper_.data();
    result_.lower_map = lower_.data();
    result_.map_score = highest(upper_);
}

void Inspector::judge(const FrameView& frame, const Placement& placement, bool label_alone) {
    const bool exact = result_.lower_map == result_.map;
    const float* shown = label_alone ? result_.lower_map : result_.map;
    const bool any = mask_above(shown, static_cast<int64_t>(mask_.size()), recipe_->theta(), mask_.data());
    result_.regions = {};
    if (any) result_.regions = finder_.find(shown, mask_.data(), placement, frame.size());
    result_.mask = mask_.data();
    result_.neighbours = neighbours_;
    const bool by_lower = !exact && recipe_->judge().label_known(known_);
    result_.verdict = recipe_->judge().verdict(known_, by_lower ? highest(lower_) : result_.map_score);
}

}  // namespace spadeline
