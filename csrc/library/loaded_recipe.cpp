#include "library/loaded_recipe.hpp"

#include <algorithm>

#include "library/errors.hpp"
#include "library/recipe/text.hpp"
#include "matcher/arithmetic.hpp"
#include "runtime/masks.hpp"
#include "runtime/retrieval.hpp"

namespace spadeline {

LoadedRecipe::LoadedRecipe(const std::string& folder, GalleryPlace place, bool verify)
    : recipe_(load_recipe(folder, place, verify)) {
    const StandardArithmetic arithmetic;
    const Manifest& manifest = recipe_.manifest;
    if (!manifest.calibration)
        throw RecipeError(folder + ": expected thresholds, got none; make them with: spadeline calibrate");
    check_reach();
    const auto images = static_cast<int64_t>(manifest.images.size());
    const int64_t size = geometry().embedding_size;
    check_embeddings("embeddings", {gallery().embeddings(), static_cast<size_t>(images * size)}, size);
    index_ = make_index(settings().index_factory, gallery().embeddings(), images, size);
    const std::vector<FrameFacts> facts = manifest.frame_facts();
    if (settings().frame_check && !facts.empty()) {
        Retrieval retrieval(gallery().embeddings(), images, size, index());
        limits_ = FrameLimits::of(facts, ignore() ? std::nullopt : farthest_nearest(retrieval, manifest.families()));
    }
    judge_.emplace(settings().label_rule, tau(), theta(), limits_);
    shapes_.emplace(manifest.frame_sizes(),
                    settings().framing == Framing::whole ? std::optional(input()) : std::nullopt);
    const LevelShape& finest = geometry().levels[0];
    if (ignore()) ignored_distances_ = spadeline::ignored_distances(ignore(), input(), {finest.height, finest.width});
    for (const ImageRecord& image : manifest.images) image_names_.push_back(file_name(image.name));
}

// Images may have been removed since kappa was set, or the window may be too narrow.
void LoadedRecipe::check_reach() const {
    const auto images = std::min<int64_t>(settings().k_gallery, static_cast<int64_t>(recipe_.manifest.images.size()));
    const int64_t reach = images * geometry().pyramid().reachable(settings().window);
    if (settings().kappa > reach)
        throw RecipeError(recipe_.folder + ": expected a kappa of at most the " + std::to_string(reach) +
                          " gallery pixels within reach in " + std::to_string(images) + " images, got " +
                          std::to_string(settings().kappa) + "; set another with: spadeline calibrate");
}

std::shared_ptr<const Extractor> LoadedRecipe::extractor(int threads) const {
    const std::lock_guard lock(turn_);
    std::weak_ptr<const Extractor>& kept = extractors_[threads];
    std::shared_ptr<const Extractor> found = kept.lock();
    if (!found) kept = found = std::make_shared<const Extractor>(recipe_, threads);
    return found;
}

}  // namespace spadeline
