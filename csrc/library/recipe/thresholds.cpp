#include "library/recipe/thresholds.hpp"

#include <algorithm>
#include <cmath>

#include "library/recipe/json.hpp"

namespace spadeline {
namespace {

// Python's bounds may round otherwise than these.
constexpr double kRelative = 1e-6, kAbsolute = 1e-12;
constexpr double kRounding = 1e-9;  // of an image: makes up for the rounding of decimals, as in 100 * 0.29
constexpr int kHalvings = 100;      // of the interval from 0 to 1; float64 distinguishes no more above 1e-14

// Which of the scores, sorted, is the threshold: 1 is the lowest.
int64_t rank_of(int64_t images, double false_alarm_rate) {
    const double above = std::floor(static_cast<double>(images + 1) * false_alarm_rate + kRounding);
    return std::clamp<int64_t>(images + 1 - static_cast<int64_t>(above), 1, images);
}

// The chance that at most `most` of `images` happen, each with the chance `rate`, which is neither 0 nor 1.
double at_most(int64_t most, int64_t images, double rate) {
    const double odds = std::log(rate) - std::log1p(-rate);
    double logarithm = static_cast<double>(images) * std::log1p(-rate);  // of the chance that none happens
    double sum = std::exp(logarithm);
    for (int64_t i = 0; i < most; ++i) {
        logarithm += std::log(static_cast<double>(images - i) / static_cast<double>(i + 1)) + odds;
        sum += std::exp(logarithm);
    }
    return sum;
}

// The true rate of the j-th smallest of n scores is at most x with the chance that more than n - j of n images score
// above it, each with the chance x. The bound is the x at which that chance is the confidence.
double bound_of(const Threshold& threshold) {
    const int64_t most = threshold.images - rank_of(threshold.images, threshold.false_alarm_rate);
    double low = 0, high = 1;
    for (int i = 0; i < kHalvings; ++i) {
        const double middle = (low + high) / 2;
        if (middle <= low || middle >= high) break;
        (1 - at_most(most, threshold.images, middle) < threshold.confidence ? low : high) = middle;
    }
    return high;
}

void check(const Threshold& threshold, std::vector<double> scores) {
    const auto place = scores.begin() + rank_of(threshold.images, threshold.false_alarm_rate) - 1;
    std::nth_element(scores.begin(), place, scores.end());
    const double bound = bound_of(threshold);
    const double tolerance = std::max(kRelative * std::max(bound, threshold.bound), kAbsolute);
    if (*place == threshold.value && std::abs(bound - threshold.bound) <= tolerance) return;
    throw InputError("expected " + shown(Json(*place)) + " with a bound of " + shown(Json(bound)) +
                     ", which the stored scores give, got " + shown(Json(threshold.value)) + " with " +
                     shown(Json(threshold.bound)) + "; make the thresholds anew with: spadeline calibrate");
}

}  // namespace

void check_thresholds(const Calibration& calibration) {
    named("tau", [&] { check(calibration.tau, calibration.image_scores); });
    named("theta", [&] { check(calibration.theta, calibration.map_scores); });
}

}  // namespace spadeline
