#include "library/recipe/recipe.hpp"

#include <algorithm>

#include "library/errors.hpp"
#include "library/recipe/thresholds.hpp"
#include "library/resources.hpp"

namespace spadeline {
namespace {

// Frames need a matcher, a map and their results, too. As measured, in bytes: the matcher's for each position of the
// finest level, its results' for each position and neighbour, and those of the map and its steps for each pixel.
constexpr int64_t kMatcherBytes = 24'000, kNeighbourBytes = 24, kMapBytes = 32;

void check_room(const Manifest& manifest, const std::string& folder) {
    const Geometry& geometry = manifest.geometry;
    const LevelShape& finest = geometry.levels[0];
    const int64_t kappa = manifest.settings.kappa;
    const int64_t needed =
        finest.pixels() * (kMatcherBytes + kappa * kNeighbourBytes) + geometry.height * geometry.width * kMapBytes;
    const int64_t available = available_memory();
    if (needed <= available) return;
    throw RecipeError(folder + ": expected levels and a kappa that " + megabytes(available) +
                      " of memory suffice for, got " + std::to_string(finest.height) + " x " +
                      std::to_string(finest.width) + " positions, " + std::to_string(geometry.height) + " x " +
                      std::to_string(geometry.width) + " pixels and kappa " + std::to_string(kappa) +
                      ", for which a frame takes " + megabytes(needed));
}

std::vector<uint8_t> read_ignore(const Manifest& manifest, const std::string& folder) {
    const auto found = manifest.files.find(kIgnoreRole);
    if (found == manifest.files.end()) return {};
    const StoredArray array(folder, found->second, {"|b1", {manifest.geometry.height, manifest.geometry.width}});
    const Pages pages = array.file().read();
    std::vector<uint8_t> ignore(pages.data() + array.offset(), pages.data() + pages.size());
    if (const int largest = *std::max_element(ignore.begin(), ignore.end()); largest > 1)
        throw RecipeError(array.file().path() + ": expected bytes of 0 and 1, got " + std::to_string(largest));
    if (std::find(ignore.begin(), ignore.end(), 0) == ignore.end())
        throw RecipeError(array.file().path() +
                          ": ignore: expected a pixel or more that is scored, got a mask that ignores all");
    return ignore;
}

Recipe open_recipe(const std::string& folder, const std::string& encoded, GalleryPlace place, bool verify) {
    Recipe recipe;
    recipe.folder = folder;
    recipe.manifest = manifest_of(encoded, folder + "/" + kManifestName);
    if (verify && recipe.manifest.calibration) {
        try {
            check_thresholds(*recipe.manifest.calibration);
        } catch (const InputError& error) {
            throw RecipeError(folder + "/" + kManifestName + ": " + error.what());
        }
    }
    check_room(recipe.manifest, folder);
    const OpenedFile extractor(folder, recipe.manifest.files.at(kExtractorRole));
    recipe.ignore = read_ignore(recipe.manifest, folder);
    recipe.gallery = std::make_unique<const HeldGallery>(recipe.manifest, folder, place, verify);
    recipe.extractor = extractor.read();
    return recipe;
}

}  // namespace

Recipe load_recipe(const std::string& folder, GalleryPlace place, bool verify) {
    const std::string path = folder + "/" + kManifestName;
    std::string encoded = read_text(path, kLargestManifest);
    while (true) {
        try {
            return open_recipe(folder, encoded, place, verify);
        } catch (const RecipeError&) {
            // A writer may have switched since recipe.json was read, and removed the files that it named.
            std::string current = read_text(path, kLargestManifest);
            if (current == encoded) throw;
            encoded = std::move(current);
        }
    }
}

}  // namespace spadeline
