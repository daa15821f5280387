// A recipe's settings: engine/settings.py says what each means, and has their defaults and texts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "matcher/match_task.hpp"
#include "matcher/matcher.hpp"
#include "matcher/rounds.hpp"
#include "runtime/placement.hpp"
#include "runtime/verdict.hpp"

namespace spadeline {

using Json = nlohmann::json;

inline constexpr int64_t kMostImages = (int64_t{1} << 31) - 1;

// What happens to a frame of other proportions than the normal images'.
enum class FrameShapeRule { error, warn, any };

struct Settings {
    Framing framing = Framing::whole;
    int64_t angles = 1;  // of each normal image
    int64_t k_score = 5, k_gallery = 50, kappa = 1;
    std::optional<int64_t> window;
    std::vector<double> level_weights;  // empty: all 1
    Upsampling upsampling = Upsampling::nearest;
    bool root = false;
    double sigma = 4;
    std::string index_factory = "Flat";
    Storage storage = Storage::float16;
    LabelRule label_rule = LabelRule::map;
    bool frame_check = true;
    FrameShapeRule frame_shape = FrameShapeRule::error;
    Need need = Need::map;
};

// Throws InputError. `later`: fields that came after the version of the format; they have their defaults.
Settings settings_of(const Json& content, const std::set<std::string>& later);

}  // namespace spadeline
