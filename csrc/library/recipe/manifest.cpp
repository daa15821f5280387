#include "library/recipe/manifest.hpp"

#include <algorithm>

#include "library/recipe/json.hpp"
#include "library/recipe/records.hpp"
#include "library/recipe/sha256.hpp"

namespace spadeline {
namespace {

constexpr const char* kFormat = "spadeline-recipe";
constexpr int64_t kNewestVersion = 5, kFirstSealed = 3;
constexpr int64_t kCodesVersion = 1;
constexpr int64_t kLastGeneration = 999'999'999'999'999'999;
constexpr size_t kGenerationDigits = 18;
// Marks are the characters that begin a value or a name. A file that is full of them would take far more memory than a
// recipe of its size.
constexpr int64_t kMostMarks = int64_t{1} << 22;
constexpr size_t kDigits = 64;  // of a SHA-256

// The fields and files that came after a version of the format.
std::set<std::string> later_than(int64_t version) {
    std::set<std::string> later;
    if (version < 2) later.insert({"codes_version", "level_weights", kIgnoreRole});
    if (version < 3) later.insert({"frame_check", "frame_shape", "size", "facts", "image_names", "pixels_sha256"});
    if (version < 4) later.insert("need");
    if (version < 5) later.insert({"tuning", "angles", "original", "degrees"});
    return later;
}

std::string seal_of(std::string_view body) {
    Sha256 hash;
    hash.update(body.data(), body.size());
    return "  \"sha256\": \"" + hash.hex() + "\"\n}\n";
}

void check_seal(std::string_view encoded) {
    const size_t length = std::string_view("  \"sha256\": \"\"\n}\n").size() + kDigits;
    const std::string_view body = encoded.substr(0, encoded.size() - std::min(length, encoded.size()));
    if (encoded.substr(body.size()) != seal_of(body))
        throw InputError(
            "expected to end with the SHA-256 of what precedes it, got another end: it was damaged, or edited by hand; "
            "restore it from a copy, and change settings with: spadeline calibrate");
}

StoredFile file_of(const Json& content) {
    const Fields fields(content, {"name", "size", "sha256"});
    return {text("name", fields.at("name")), integer("size", fields.at("size"), 1, INT64_MAX),
            digest("sha256", fields.at("sha256"))};
}

std::map<std::string, StoredFile> files_of(const Json& content, const std::set<std::string>& later) {
    if (!content.is_object()) throw InputError("expected an object, got " + shown(content));
    std::map<std::string, StoredFile> files;
    for (const auto& [role, part] : content.items()) {
        if (later.contains(role)) throw InputError(shown(role) + " is unknown");
        files[role] = named(role, [&, part = &part] { return file_of(*part); });
    }
    return files;
}

std::string roles_of(const std::map<std::string, StoredFile>& files) {
    std::vector<std::string> roles;
    for (const auto& [role, file] : files) roles.push_back(role.substr(0, 100));
    return listed(roles).substr(0, 1000);
}

// Each file has the only name that it may have, which can't lead out of the folder.
void check_file_names(const Manifest& manifest, const std::vector<std::string>& features) {
    for (const auto& [role, file] : manifest.files) {
        // Features are of this generation. The other files may be older, and codes that were made later are newer.
        const bool fixed = std::find(features.begin(), features.end(), role) != features.end();
        const std::string start = role + "-", end = role == kExtractorRole ? ".onnx" : ".npy";
        const std::string number = fixed ? std::to_string(manifest.generation) : "<generation>";
        bool fits =
            file.name.size() > start.size() + end.size() && file.name.starts_with(start) && file.name.ends_with(end);
        if (fits) {
            const std::string came = file.name.substr(start.size(), file.name.size() - start.size() - end.size());
            fits = fixed ? came == number : counted(came, kGenerationDigits).has_value();
        }
        if (!fits)
            throw InputError("files: " + role + ": expected the name " + start + number + end + ", got " +
                             shown(file.name));
    }
}

void check_files(const Manifest& manifest, int64_t codes_version) {
    const Geometry& geometry = manifest.geometry;
    std::vector<std::string> features{kEmbeddingsRole};
    features.insert(features.end(), geometry.level_names.begin(), geometry.level_names.end());
    std::vector<std::string> required{kExtractorRole}, optional{kIgnoreRole};
    required.insert(required.end(), features.begin(), features.end());
    if (manifest.has_codes && !geometry.can_have_codes())
        throw InputError("codes_version: expected none for levels of so many channels, got " +
                         std::to_string(codes_version));
    for (size_t l = 0; l < geometry.levels.size() && codes_version > 0; ++l) {
        for (const char* kind : {"basis", "projected", "rotated"}) {
            const CodeLayout layout = manifest.has_codes ? geometry.code_layout(l) : CodeLayout{};
            const bool missing = (*kind == 'p' && layout.projected.empty()) || (*kind == 'r' && layout.rotated.empty());
            if (manifest.has_codes && missing) continue;
            (manifest.has_codes ? required : optional).push_back(code_role(kind, geometry.level_names[l]));
        }
    }
    const auto among = [](const std::vector<std::string>& roles, const std::string& role) {
        return std::find(roles.begin(), roles.end(), role) != roles.end();
    };
    bool fits = true;
    for (const std::string& role : required) fits &= manifest.files.contains(role);
    for (const auto& [role, file] : manifest.files) fits &= among(required, role) || among(optional, role);
    if (!fits)
        throw InputError("files: expected " + listed(required) + ", possibly " + listed(optional) + ", got " +
                         roles_of(manifest.files));
    check_file_names(manifest, features);
}

// Each turned image follows its original, as families() expects.
void check_originals(const std::vector<ImageRecord>& images) {
    const std::string* original = nullptr;
    for (const ImageRecord& image : images) {
        if (!image.original) {
            original = &image.name;
        } else if (!original || *image.original != *original) {
            throw InputError("image " + shown(image.name) + ": expected to follow its original " +
                             shown(*image.original) + ", got it behind " + (original ? shown(*original) : "None"));
        }
    }
}

Manifest read(const Json& content, std::string_view encoded) {
    if (!content.is_object() || !content.contains("format") || content["format"] != kFormat)
        throw InputError("expected an object of format '" + std::string(kFormat) + "'");
    const Json version = content.contains("version") ? content["version"] : Json();
    if (!version.is_number_integer() || version < 1 || version > kNewestVersion)
        throw InputError("expected version 1 to " + std::to_string(kNewestVersion) + " of the format, got " +
                         shown(version));
    Manifest manifest;
    manifest.version = version.get<int64_t>();
    const std::set<std::string> later = later_than(manifest.version);
    std::set<std::string> later_here = later;
    if (manifest.version < kFirstSealed) {
        later_here.insert("sha256");  // images have a field of this name in all versions
    } else {
        check_seal(encoded);
    }
    const Fields fields(content,
                        {"format", "version", "spadeline_version", "created", "generation", "settings", "geometry",
                         "files", "codes_version", "calibration", "tuning", "images", "sha256"},
                        later_here);
    manifest.spadeline_version = text("spadeline_version", fields.at("spadeline_version"), 100);
    manifest.created = utc("created", fields.at("created"));
    manifest.generation = integer("generation", fields.at("generation"), 1, kLastGeneration);
    manifest.settings = named("settings", [&] { return settings_of(fields.at("settings"), later); });
    manifest.geometry = named("geometry", [&] { return geometry_of(fields.at("geometry")); });
    const size_t weights = manifest.settings.level_weights.size(), levels = manifest.geometry.levels.size();
    if (weights && weights != levels)
        throw InputError("level_weights: expected " + std::to_string(levels) + ", one for each of " +
                         listed(manifest.geometry.level_names) + ", got " + std::to_string(weights));
    manifest.files = named("files", [&] { return files_of(fields.at("files"), later); });
    const Json& codes = fields.at("codes_version");
    const int64_t codes_version = codes.is_null() ? 0 : integer("codes_version", codes, 1, kMostImages);
    manifest.has_codes = codes_version == kCodesVersion;
    if (const Json& part = fields.at("calibration"); !part.is_null())
        manifest.calibration = named("calibration", [&] { return calibration_of(part, later); });
    if (const Json& part = fields.at("tuning"); !part.is_null()) named("tuning", [&] { check_tuning(part); });
    manifest.images = named("images", [&] { return images_of(fields.at("images"), later); });
    if (manifest.images.empty()) throw InputError("images: expected one or more, got none");
    std::vector<std::string> names;
    for (const ImageRecord& image : manifest.images) names.push_back(image.name);
    check_unique("images", names);
    check_originals(manifest.images);
    check_files(manifest, codes_version);
    return manifest;
}

}  // namespace

std::string code_role(const char* kind, const std::string& level_name) { return std::string(kind) + "-" + level_name; }

std::vector<PictureSize> Manifest::frame_sizes() const {
    std::vector<PictureSize> sizes;
    for (const ImageRecord& image : images) {
        if (image.original) continue;
        if (!image.size) return {};
        sizes.push_back(*image.size);
    }
    return sizes;
}

std::vector<FrameFacts> Manifest::frame_facts() const {
    std::vector<FrameFacts> facts;
    for (const ImageRecord& image : images)
        if (image.facts) facts.push_back(*image.facts);
    return facts.size() == images.size() ? facts : std::vector<FrameFacts>{};
}

std::vector<ImageRange> Manifest::families() const {
    std::vector<ImageRange> families;
    for (int64_t i = 0; i < static_cast<int64_t>(images.size()); ++i) {
        if (!images[i].original) families.push_back({i, i});
        families.back().end = i + 1;
    }
    return families;
}

Manifest manifest_of(std::string_view encoded, const std::string& path) {
    const auto marks = std::count_if(encoded.begin(), encoded.end(),
                                     [](char c) { return c == '[' || c == '{' || c == ',' || c == ':'; });
    try {
        if (marks > kMostMarks)
            throw InputError("expected at most " + std::to_string(kMostMarks) + " brackets, commas and colons, got " +
                             std::to_string(marks));
        return read(parse_json(encoded), encoded);
    } catch (const InputError& error) {
        throw RecipeError(path + ": " + error.what());
    }
}

}  // namespace spadeline
