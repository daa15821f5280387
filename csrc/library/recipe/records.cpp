#include "library/recipe/records.hpp"

#include <algorithm>

#include "library/recipe/json.hpp"

namespace spadeline {
namespace {

constexpr int64_t kMost = (int64_t{1} << 31) - 1;  // images, and settings tried
constexpr double kMostSharpness = 1e9;

Threshold threshold_of(const Json& content) {
    const Fields fields(content, {"value", "false_alarm_rate", "images", "bound", "confidence"});
    Threshold threshold;
    threshold.value = number("value", fields.at("value"));
    threshold.images = integer("images", fields.at("images"), 1, kMost);
    threshold.bound = number("bound", fields.at("bound"), 0, 1);
    threshold.false_alarm_rate = fraction("false_alarm_rate", fields.at("false_alarm_rate"));
    threshold.confidence = fraction("confidence", fields.at("confidence"));
    return threshold;
}

std::vector<double> scores_of(const std::string& name, const Json& scores, const std::string& threshold,
                              int64_t images) {
    std::vector<double> found;
    array(name, scores);
    for (size_t i = 0; i < scores.size(); ++i) {
        const std::string place = name + "[" + std::to_string(i) + "]";
        if (!scores[i].is_number_float()) throw InputError(place + ": expected float, got " + shown(scores[i]));
        found.push_back(number(place, scores[i]));
    }
    if (static_cast<int64_t>(scores.size()) != images)
        throw InputError(name + ": expected " + threshold + "'s " + std::to_string(images) + " scores, got " +
                         std::to_string(scores.size()));
    return found;
}

void check_names(const Json& names, size_t scores) {
    std::vector<std::string> found;
    array("image_names", names);
    for (size_t i = 0; i < names.size(); ++i) found.push_back(text("image_names[" + std::to_string(i) + "]", names[i]));
    check_unique("image_names", found);
    if (found.size() != scores)
        throw InputError("image_names: expected one for each of " + std::to_string(scores) + " scores, got " +
                         std::to_string(found.size()));
}

FrameFacts facts_of(const Json& content) {
    const Fields fields(content, {"brightness", "contrast", "sharpness"});
    return {number("brightness", fields.at("brightness"), 0, 255), number("contrast", fields.at("contrast"), 0, 255),
            number("sharpness", fields.at("sharpness"), 0, kMostSharpness)};
}

void read_turn(const Fields& fields, const std::string& prefix, ImageRecord& image) {
    const Json& original = fields.at("original");
    const Json& angle = fields.at("degrees");
    if (!original.is_null()) image.original = text(prefix + "original", original);
    const double degrees = number(prefix + "degrees", angle, 0, 360);
    if (image.original.has_value() != (degrees != 0))
        throw InputError(prefix + "expected degrees above 0 if, and only if, it has an original, got " + shown(angle) +
                         " and " + shown(original));
}

ImageRecord image_of(const Json& content, const std::set<std::string>& later) {
    const Fields fields(content, {"name", "sha256", "pixels_sha256", "size", "facts", "original", "degrees"}, later);
    ImageRecord image;
    image.name = text("image name", fields.at("name"));
    const std::string prefix = "image " + shown(image.name) + ": ";
    for (const char* hash : {"sha256", "pixels_sha256"})
        if (!fields.at(hash).is_null()) digest(prefix + hash, fields.at(hash));
    if (const Json& size = fields.at("size"); !size.is_null()) {
        if (!size.is_array() || size.size() != 2)
            throw InputError(prefix + "size: expected (height, width), got " + shown(size));
        image.size = PictureSize{integer(prefix + "size: height", size[0], 1, kMostPixels),
                                 integer(prefix + "size: width", size[1], 1, kMostPixels)};
    }
    if (const Json& facts = fields.at("facts"); !facts.is_null())
        image.facts = named("facts", [&] { return facts_of(facts); });
    if (!later.contains("original")) read_turn(fields, prefix, image);
    return image;
}

}  // namespace

Calibration calibration_of(const Json& content, const std::set<std::string>& later) {
    const Fields fields(content, {"tau", "theta", "method", "image_scores", "map_scores", "image_names"}, later);
    Calibration calibration;
    calibration.tau = named("tau", [&] { return threshold_of(fields.at("tau")); });
    calibration.theta = named("theta", [&] { return threshold_of(fields.at("theta")); });
    choice<int>("method", fields.at("method"), {"leave-one-out", "held-out"});
    calibration.image_scores = scores_of("image_scores", fields.at("image_scores"), "tau", calibration.tau.images);
    calibration.map_scores = scores_of("map_scores", fields.at("map_scores"), "theta", calibration.theta.images);
    if (const Json& names = fields.at("image_names"); !names.is_null())
        check_names(names, calibration.map_scores.size());
    return calibration;
}

std::vector<ImageRecord> images_of(const Json& content, const std::set<std::string>& later) {
    if (!content.is_array()) throw InputError("expected a list, got " + shown(content));
    std::vector<ImageRecord> images;
    for (size_t i = 0; i < content.size(); ++i)
        images.push_back(named("image " + std::to_string(i), [&] { return image_of(content[i], later); }));
    return images;
}

void check_tuning(const Json& content) {
    const Fields fields(
        content, {"date", "extractors", "tried", "changed", "choosing_abnormal", "choosing_good", "final_abnormal",
                  "final_good", "found_before", "found", "false_alarms_before", "false_alarms"});
    utc("date", fields.at("date"));
    static const Json known = {"extractor", "framing",       "angles",      "k_score",     "k_gallery", "kappa",
                               "window",    "level_weights", "upsampling",  "distance",    "sigma",     "index_factory",
                               "storage",   "label_rule",    "frame_check", "frame_shape", "need"};
    std::vector<std::string> changed;
    for (const Json& name : array("changed", fields.at("changed"))) {
        const std::string place = "changed[" + std::to_string(changed.size()) + "]";
        changed.push_back(text(place, name));
        if (std::find(known.begin(), known.end(), name) == known.end())
            throw InputError(place + ": expected a setting's name or 'extractor', got " + shown(name));
    }
    check_unique("changed", changed);
    for (const char* name : {"extractors", "tried", "choosing_abnormal", "choosing_good"})
        integer(name, fields.at(name), 1, kMost);
    const int64_t abnormal = integer("final_abnormal", fields.at("final_abnormal"), 1, kMost);
    const int64_t good = integer("final_good", fields.at("final_good"), 1, kMost);
    for (const char* name : {"found_before", "found"}) integer(name, fields.at(name), 0, abnormal);
    for (const char* name : {"false_alarms_before", "false_alarms"}) integer(name, fields.at(name), 0, good);
}

}  // namespace spadeline
