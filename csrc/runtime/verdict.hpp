// The label rule: from a frame's scores to its verdict, by a recipe's thresholds and frame check. Python's is this one.
//
// A map that isn't exact counts by its upper bound: what isn't proven to be normal is anomalous. But if the label is
// known without the map, the map counts by its lower bound. So a caller gives
//
//     map_score = exact || !judge.label_known(known) ? max(map) : max(lower map)
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/frame_check.hpp"
#include "runtime/frame_facts.hpp"

namespace spadeline {

enum class LabelRule { image, map, either };

enum class Reason { map, image, exposure, contrast, sharpness, unlike };
inline constexpr Reason kReasons[] = {Reason::map,      Reason::image,     Reason::exposure,
                                      Reason::contrast, Reason::sharpness, Reason::unlike};
const char* name_of(Reason reason);

// A set of reasons.
class Reasons {
 public:
    bool any() const { return bits_ != 0; }
    bool has(Reason reason) const { return bits_ & bit(reason); }
    void add(Reason reason) { bits_ |= bit(reason); }
    uint32_t bits() const { return bits_; }  // reason r is bit 1 << r
    bool operator==(const Reasons&) const = default;

 private:
    static constexpr uint32_t bit(Reason reason) { return 1u << static_cast<int>(reason); }
    uint32_t bits_ = 0;
};

struct Verdict {
    // The score that the label rule compares with a threshold; it is above its threshold if, and only if, there is a
    // reason. Always finite.
    double pred_score;
    Reasons reasons;  // why the frame is anomalous; none: it is normal
};

// What is known of a frame before its pixels are matched.
struct Known {
    double image_score;
    double nearest_distance;          // squared, to the nearest normal embedding
    std::optional<FrameFacts> facts;  // none: without the frame check
};

// Gives verdicts. May be shared by threads.
class Judge {
 public:
    // `limits`: the frame check's; none: it is off, or the recipe doesn't know all of its images' facts.
    Judge(LabelRule rule, double tau, double theta, std::optional<FrameLimits> limits);

    // Whether a frame's label is known without its map: the map doesn't count, or there is another reason.
    bool label_known(const Known& known) const;
    // `map_score`: the map's maximum, see above.
    Verdict verdict(const Known& known, double map_score) const;

 private:
    const LabelRule rule_;
    const double tau_, theta_;
    const std::optional<FrameLimits> limits_;
};

}  // namespace spadeline
