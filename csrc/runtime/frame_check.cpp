#include "runtime/frame_check.hpp"

#include <algorithm>

namespace spadeline {
namespace {

// large / small, at most kMostExcess, and 0 for 0 / 0; neither is negative.
double times(double large, double small) {
    return large < kMostExcess * small ? large / small : large > 0 ? kMostExcess : 0;
}

}  // namespace

FrameLimits FrameLimits::of(std::span<const FrameFacts> facts, std::optional<double> nearest) {
    FrameFacts low = facts[0], high = facts[0];
    for (const FrameFacts& image : facts) {
        low = {std::min(low.brightness, image.brightness), std::min(low.contrast, image.contrast),
               std::min(low.sharpness, image.sharpness)};
        high.brightness = std::max(high.brightness, image.brightness);
    }
    if (nearest) *nearest *= kUnlike;
    return {low.brightness / kBeyond, high.brightness * kBeyond, std::max(low.contrast / kBeyond, kLeastContrast),
            low.sharpness / kBeyond, nearest};
}

Excess FrameLimits::excess(const FrameFacts& facts, double distance) const {
    return {std::max(times(darkest, facts.brightness), times(facts.brightness, brightest)),
            times(least_contrast, facts.contrast), times(least_sharpness, facts.sharpness),
            farthest ? times(distance, *farthest) : 0};
}

std::vector<int64_t> compared_images(int64_t count) {
    const int64_t most = std::min(count, kMostCompared);
    std::vector<int64_t> images;
    for (int64_t i = 0; i < most; ++i) images.push_back(most > 1 ? i * (count - 1) / (most - 1) : 0);
    return images;
}

std::optional<double> farthest_nearest(Retrieval& retrieval, std::span<const ImageRange> families) {
    std::optional<double> farthest;
    for (const int64_t index : compared_images(static_cast<int64_t>(families.size()))) {
        const ImageRange family = families[index];
        const auto nearest = retrieval.nearest(retrieval.row(family.first), 1, family);
        if (!nearest.empty()) farthest = std::max<double>(farthest.value_or(0), nearest[0].squared);
    }
    return farthest;
}

}  // namespace spadeline
