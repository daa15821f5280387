#include "library/describe.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace spadeline {
namespace {

using Ordered = nlohmann::ordered_json;

std::string text_of(const Ordered& content) {
    return content.dump(2, ' ', true, Ordered::error_handler_t::replace);  // folders may have any bytes
}

const char* name_of(Need need) { return need == Need::map ? "map" : need == Need::mask ? "mask" : "label"; }

Ordered settings_json(const Settings& settings) {
    Ordered content;
    content["framing"] = settings.framing == Framing::whole ? "whole" : "paper";
    content["angles"] = settings.angles;
    content["k_score"] = settings.k_score;
    content["k_gallery"] = settings.k_gallery;
    content["kappa"] = settings.kappa;
    content["window"] = settings.window ? Ordered(*settings.window) : Ordered();
    content["level_weights"] = settings.level_weights.empty() ? Ordered() : Ordered(settings.level_weights);
    content["upsampling"] = settings.upsampling == Upsampling::nearest ? "nearest" : "bilinear";
    content["distance"] = settings.root ? "root" : "squared";
    content["sigma"] = settings.sigma;
    content["index_factory"] = settings.index_factory;
    content["storage"] = settings.storage == Storage::float16 ? "float16" : "float32";
    content["label_rule"] = settings.label_rule == LabelRule::map     ? "map"
                            : settings.label_rule == LabelRule::image ? "image"
                                                                      : "either";
    content["frame_check"] = settings.frame_check ? "on" : "off";
    content["frame_shape"] = settings.frame_shape == FrameShapeRule::error  ? "error"
                             : settings.frame_shape == FrameShapeRule::warn ? "warn"
                                                                            : "any";
    content["need"] = name_of(settings.need);
    return content;
}

Ordered limits_json(const std::optional<FrameLimits>& limits) {
    if (!limits) return {};
    Ordered content;
    content["darkest"] = limits->darkest;
    content["brightest"] = limits->brightest;
    content["least_contrast"] = limits->least_contrast;
    content["least_sharpness"] = limits->least_sharpness;
    content["farthest"] = limits->farthest ? Ordered(*limits->farthest) : Ordered();
    return content;
}

}  // namespace

std::string described(const LoadedRecipe& recipe) {
    const Manifest& manifest = recipe.manifest();
    Ordered content;
    content["library"] = SPADELINE_VERSION_TEXT;
    content["recipe"] = recipe.recipe().folder;
    content["version"] = manifest.version;
    content["spadeline_version"] = manifest.spadeline_version;
    content["created"] = manifest.created;
    content["generation"] = manifest.generation;
    content["images"] = manifest.images.size();
    content["gallery"] = recipe.gallery().mapped() ? "mapped" : "memory";
    content["settings"] = settings_json(recipe.settings());
    content["tau"] = recipe.tau();
    content["theta"] = recipe.theta();
    content["input_size"] = {recipe.geometry().height, recipe.geometry().width};
    Ordered levels = Ordered::object();
    for (size_t l = 0; l < recipe.geometry().levels.size(); ++l) {
        const LevelShape& level = recipe.geometry().levels[l];
        levels[recipe.geometry().level_names[l]] = {level.channels, level.height, level.width};
    }
    content["levels"] = levels;
    content["embedding_size"] = recipe.geometry().embedding_size;
    content["codes"] = manifest.has_codes;
    const std::vector<uint8_t>& ignore = recipe.recipe().ignore;
    const auto ignored = static_cast<double>(std::count(ignore.begin(), ignore.end(), 1));
    content["ignored_share"] = ignore.empty() ? Ordered() : Ordered(ignored / static_cast<double>(ignore.size()));
    content["frame_check"] = limits_json(recipe.limits());
    return text_of(content);
}

std::string described(const Inspector& inspector) {
    const Extractor& extractor = inspector.extractor();
    const auto metadata = [&](const char* key) {
        const auto found = extractor.metadata().find(key);
        return found == extractor.metadata().end() ? std::string("unknown") : found->second;
    };
    Ordered content;
    content["recipe"] = inspector.recipe().recipe().folder;
    content["onnxruntime"] = runtime_version();
    content["extractor"] = "CPUExecutionProvider";
    content["precision"] = extractor.precision();
    content["neighbourhood"] = extractor.neighbourhood();
    content["backbone"] = metadata("spadeline.backbone");
    content["weights"] = metadata("spadeline.weights");
    content["rounds"] = inspector.pruned();
    content["chain"] = "host";
    content["retrieval"] = "cpu";
    content["matcher"] = inspector.pruned() ? "pruned" : "dense";
    content["matcher_device"] = "cpu";
    content["instruction_set"] = inspector.matcher().instruction_set();
    content["threads"] = inspector.matcher().threads();
    return text_of(content);
}

}  // namespace spadeline
