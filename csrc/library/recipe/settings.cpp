#include "library/recipe/settings.hpp"

#include <algorithm>
#include <string_view>

#include "library/recipe/json.hpp"
#include "library/recipe/text.hpp"

namespace spadeline {
namespace {

constexpr int64_t kMostAngles = 72;
constexpr int64_t kMostNeighbours = 1000;
constexpr int64_t kLargestWindow = (int64_t{1} << 31) - 1;
constexpr double kLargestSigma = 1000;
constexpr size_t kMostWeights = 4;
constexpr double kSmallestWeight = 1e-6, kLargestWeight = 1e6;

constexpr size_t kDimensionDigits = 4, kLinkDigits = 3, kListDigits = 7;  // of PCA, HNSW and IVF

// Removes `start` from the front of text, and returns whether it stood there.
bool take(std::string_view& text, std::string_view start) {
    const bool found = text.starts_with(start);
    if (found) text.remove_prefix(start.size());
    return found;
}

bool is_index(std::string_view text) {
    if (take(text, "PCA")) {
        const size_t comma = text.find(',');
        if (comma == std::string_view::npos || !counted(text.substr(0, comma), kDimensionDigits)) return false;
        text.remove_prefix(comma + 1);
    }
    if (take(text, "HNSW")) return counted(text, kLinkDigits).value_or(0) >= 2;
    if (take(text, "IVF")) {
        const size_t comma = std::min(text.find(','), text.size());
        const std::string_view in_lists = text.substr(comma);
        return counted(text.substr(0, comma), kListDigits) && (in_lists == ",Flat" || in_lists == ",SQ8");
    }
    return text == "Flat" || text == "SQ8" || text == "SQfp16" || text == "LSH";
}

std::string index_factory(const Json& value) {
    const std::string found = text("index_factory", value);
    if (!is_index(found))
        throw InputError(
            "index_factory: expected Flat, SQ8, SQfp16, LSH, HNSW<2 to 999>, IVF<lists>,Flat or IVF<lists>,SQ8, or one "
            "of them behind PCA<dimensions>, got " +
            shown(value));
    return found;
}

std::vector<double> level_weights(const Json& value) {
    std::vector<double> weights;
    if (value.is_null()) return weights;
    if (!value.is_array() || value.empty() || value.size() > kMostWeights)
        throw InputError("level_weights: expected 1 to 4 numbers, one a level, got " + shown(value));
    for (size_t i = 0; i < value.size(); ++i)
        weights.push_back(
            number("level_weights[" + std::to_string(i) + "]", value[i], kSmallestWeight, kLargestWeight));
    return weights;
}

}  // namespace

Settings settings_of(const Json& content, const std::set<std::string>& later) {
    const Fields fields(
        content,
        {"framing", "angles", "k_score", "k_gallery", "kappa", "window", "level_weights", "upsampling", "distance",
         "sigma", "index_factory", "storage", "label_rule", "frame_check", "frame_shape", "need"},
        later);
    Settings settings;
    settings.framing = choice<Framing>("framing", fields.at("framing"), {"whole", "paper"});
    if (!later.contains("angles")) settings.angles = integer("angles", fields.at("angles"), 1, kMostAngles);
    settings.k_score = integer("k_score", fields.at("k_score"), 1, kMostImages);
    settings.k_gallery = integer("k_gallery", fields.at("k_gallery"), 1, kMostImages);
    settings.kappa = integer("kappa", fields.at("kappa"), 1, kMostNeighbours);
    if (const Json& window = fields.at("window"); !window.is_null())
        settings.window = integer("window", window, 0, kLargestWindow);
    settings.level_weights = level_weights(fields.at("level_weights"));
    settings.upsampling = choice<Upsampling>("upsampling", fields.at("upsampling"), {"nearest", "bilinear"});
    settings.root = choice<int>("distance", fields.at("distance"), {"squared", "root"}) == 1;
    settings.sigma = number("sigma", fields.at("sigma"), 0, kLargestSigma);
    settings.index_factory = index_factory(fields.at("index_factory"));
    settings.storage = choice<Storage>("storage", fields.at("storage"), {"float32", "float16"});
    constexpr LabelRule kRules[] = {LabelRule::map, LabelRule::image, LabelRule::either};
    settings.label_rule = kRules[choice<int>("label_rule", fields.at("label_rule"), {"map", "image", "either"})];
    if (!later.contains("frame_check")) {
        settings.frame_check = choice<int>("frame_check", fields.at("frame_check"), {"on", "off"}) == 0;
        settings.frame_shape =
            choice<FrameShapeRule>("frame_shape", fields.at("frame_shape"), {"error", "warn", "any"});
    }
    if (!later.contains("need")) settings.need = choice<Need>("need", fields.at("need"), {"map", "mask", "label"});
    return settings;
}

}  // namespace spadeline
