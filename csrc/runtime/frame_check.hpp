// The frame check: a frame's exposure, contrast, sharpness and likeness, against limits from the normal images. A frame
// beyond them is anomalous whatever its map shows. Python's frame check is this one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/frame_facts.hpp"
#include "runtime/retrieval.hpp"

namespace spadeline {

// How far beyond the normal images' own range a frame may be. benchmarks/frame_check.py measures the false alarms that
// this costs, and what the check finds.
inline constexpr double kBeyond = 1.5;  // the factor by which brightness, contrast or sharpness may lie outside of it
inline constexpr double kUnlike = 2;    // times the largest squared distance of a normal image to its nearest other one

// Normal images, evenly spread, that are compared with the others: a start must stay short.
inline constexpr int64_t kMostCompared = 200;
inline constexpr double kLeastContrast = 1e-3;  // gray levels; a constant frame has less, whatever the normal ones have
inline constexpr double kMostExcess = 1e6;      // the largest one reported: a black frame is infinitely too dark

// The factors by which a frame is beyond its limits. Only those above 1 exceed a limit.
struct Excess {
    double exposure, contrast, sharpness, unlike;
    bool operator==(const Excess&) const = default;
};

struct FrameLimits {
    double darkest, brightest, least_contrast, least_sharpness;
    std::optional<double> farthest;  // largest squared distance to the nearest normal embedding; none: no limit

    // The limits set by the normal images' facts, at least one, and their farthest_nearest; none: no check of likeness.
    static FrameLimits of(std::span<const FrameFacts> facts, std::optional<double> nearest);

    // `distance`: squared, of the frame's embedding to the nearest normal one.
    Excess excess(const FrameFacts& facts, double distance) const;
    bool operator==(const FrameLimits&) const = default;
};

// Images of `count`, at most kMostCompared, evenly spread and ascending.
std::vector<int64_t> compared_images(int64_t count);

// The largest squared distance of a normal image to the nearest one of another family; none if there is one family.
// `families`: each normal image with those that were turned from it. Those above are compared by their first image.
std::optional<double> farthest_nearest(Retrieval& retrieval, std::span<const ImageRange> families);

}  // namespace spadeline
