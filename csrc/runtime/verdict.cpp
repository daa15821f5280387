#include "runtime/verdict.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace spadeline {
namespace {

// The score that a rule looks at, and its threshold.
struct Judged {
    double score, threshold;
};

Judged judged(LabelRule rule, double image_score, double tau, double map_score, double theta) {
    if (rule == LabelRule::image) return {image_score, tau};
    if (rule == LabelRule::map) return {map_score, theta};
    // Either: both scores in units of their thresholds, so that the larger one decides. A threshold of 0 must not make
    // the ratio infinite, which JSON can't hold.
    constexpr double kLeast = std::numeric_limits<double>::min(), kMost = std::numeric_limits<double>::max();
    const double ratio = std::max(image_score / std::max(tau, kLeast), map_score / std::max(theta, kLeast));
    return {std::min(ratio, kMost), 1};
}

}  // namespace

const char* name_of(Reason reason) {
    constexpr const char* kNames[] = {"map", "image", "exposure", "contrast", "sharpness", "unlike"};
    return kNames[static_cast<int>(reason)];
}

Judge::Judge(LabelRule rule, double tau, double theta, std::optional<FrameLimits> limits)
    : rule_(rule), tau_(tau), theta_(theta), limits_(limits) {}

bool Judge::label_known(const Known& known) const {
    return rule_ == LabelRule::image || verdict(known, 0).reasons.any();
}

Verdict Judge::verdict(const Known& known, double map_score) const {
    Reasons reasons;
    if (rule_ != LabelRule::image && map_score > theta_) reasons.add(Reason::map);
    if (rule_ != LabelRule::map && known.image_score > tau_) reasons.add(Reason::image);
    auto [score, threshold] = judged(rule_, known.image_score, tau_, map_score, theta_);
    if (limits_ && known.facts) {
        const Excess excess = limits_->excess(*known.facts, known.nearest_distance);
        const double largest = std::max({excess.exposure, excess.contrast, excess.sharpness, excess.unlike});
        // The score alone must tell the verdict: it becomes the threshold times the factor beyond the frame's limit.
        if (largest > 1 && !reasons.any()) score = std::min(threshold * largest, std::numeric_limits<double>::max());
        if (excess.exposure > 1) reasons.add(Reason::exposure);
        if (excess.contrast > 1) reasons.add(Reason::contrast);
        if (excess.sharpness > 1) reasons.add(Reason::sharpness);
        if (excess.unlike > 1) reasons.add(Reason::unlike);
    }
    // The threshold may be 0, or the ratio round to 1.
    if (reasons.any()) score = std::max(score, std::nextafter(threshold, std::numeric_limits<double>::infinity()));
    return {score, reasons};
}

}  // namespace spadeline
