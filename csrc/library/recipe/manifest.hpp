// recipe.json, read with all checks of engine/recipe/manifest_json.py: versions 1 to 5, the seal, unknown fields,
// sizes. Whether the files that it names are there is found out when they are opened.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "library/recipe/geometry.hpp"
#include "library/recipe/settings.hpp"

namespace spadeline {

inline constexpr const char* kManifestName = "recipe.json";
inline constexpr int64_t kLargestManifest = int64_t{64} << 20;  // bytes

struct StoredFile {
    std::string name;
    int64_t size = 0;
    std::string sha256;
};

struct Threshold {
    double value = 0, false_alarm_rate = 0;
    int64_t images = 0;
    double bound = 0, confidence = 0;
};

struct Calibration {
    Threshold tau, theta;
    std::vector<double> image_scores, map_scores;  // of normal images: tau and theta are made from them
};

// One normal image. What an older version doesn't know of it is missing.
struct ImageRecord {
    std::string name;  // as parse_json returns it
    std::optional<PictureSize> size;
    std::optional<FrameFacts> facts;
    std::optional<std::string> original;  // the name of the image that it was turned from; none: it is as it was read
};

struct Manifest {
    int64_t version = 0;
    std::string spadeline_version, created;
    int64_t generation = 0;
    Settings settings;
    Geometry geometry;
    std::map<std::string, StoredFile> files;  // by role
    bool has_codes = false;                   // of the version that this library reads
    std::optional<Calibration> calibration;
    std::vector<ImageRecord> images;  // those that were turned from one follow it

    // The sizes of the images that aren't turned, or all images' facts; empty if one isn't known.
    std::vector<PictureSize> frame_sizes() const;
    std::vector<FrameFacts> frame_facts() const;

    // Each image that isn't turned, with those that were turned from it.
    std::vector<ImageRange> families() const;
};

// Roles of files.
inline constexpr const char* kExtractorRole = "extractor";
inline constexpr const char* kEmbeddingsRole = "embeddings";
inline constexpr const char* kIgnoreRole = "ignore";
std::string code_role(const char* kind, const std::string& level_name);  // kind: basis, projected or rotated

// Throws RecipeError, which names the path and the field.
Manifest manifest_of(std::string_view encoded, const std::string& path);

}  // namespace spadeline
