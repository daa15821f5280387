// The frame check: a frame's exposure, contrast, sharpness and likeness, against limits from the normal images. A frame
// beyond them is anomalous whatever its map shows. Python's frame check is this one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/frame_facts.hpp"

namespace spadeline {

class FlatRetrieval;

// How far beyond the normal images' own range a frame may be. benchmarks/frame_check.py measures the false alarms that
// this costs, and what the check finds.
inline constexpr double kBeyond = 1.5;  // the factor by which brightness, contrast or sharpness may lie outside of it
inline constexpr double kUnlike = 2;    // times the largest squared distance of a normal image to its nearest other one

inline constexpr int64_t kMostCompared = 200;  // normal images that are compared with the others: a start must be short
inline constexpr double kLeastContrast = 1e-3;  // gray levels; a constant frame has less, whatever the normal ones have
inline constexpr double kMostExcess =
    1e6;  // the largest excess reported: a black frame is infinitely many times too dark

// By which factor a frame exceeds each limit; 0 where it doesn't. A factor reported is above 1.
struct Excess {
    double exposure, contrast, sharpness, unlike;
    double largest() const;  // 0: none is exceeded
};

struct FrameLimits {
    double darkest, brightest, least_contrast, least_sharpness;
    std::optional<double> farthest;  // largest squared distance to the nearest normal embedding; none: no limit

    // The limits set by the normal images' facts, at least one, and their farthest_nearest; none: no check of likeness.
    static FrameLimits of(std::span<const FrameFacts> facts, std::optional<double> nearest);

    // `distance`: squared, of the frame's embedding to the nearest normal one.
    Excess exceeded(const FrameFacts& facts, double distance) const;
    bool operator==(const FrameLimits&) const = default;
};

// Images of `count`, at most kMostCompared, evenly spread and ascending.
std::vector<int64_t> compared_images(int64_t count);

// The largest squared distance of a normal image to the nearest other one, of the images above; none for one image.
std::optional<double> farthest_nearest(FlatRetrieval& retrieval);

}  // namespace spadeline
