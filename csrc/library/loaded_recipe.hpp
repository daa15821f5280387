// A recipe and all that its inspectors share: gallery, extractors, thresholds, limits and masks. Nothing of it changes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "library/extractor.hpp"
#include "library/index.hpp"
#include "library/recipe/recipe.hpp"
#include "runtime/frame_check.hpp"
#include "runtime/frame_shape.hpp"
#include "runtime/verdict.hpp"

namespace spadeline {

class LoadedRecipe {
 public:
    // Throws RecipeError, also for a recipe without thresholds or one whose every frame would fail; InputError for an
    // index that make_index() refuses, or a gallery that doesn't fit into memory.
    LoadedRecipe(const std::string& folder, GalleryPlace place, bool verify);
    LoadedRecipe(const LoadedRecipe&) = delete;
    LoadedRecipe& operator=(const LoadedRecipe&) = delete;

    const Recipe& recipe() const { return recipe_; }
    const Manifest& manifest() const { return recipe_.manifest; }
    const Settings& settings() const { return recipe_.manifest.settings; }
    const Geometry& geometry() const { return recipe_.manifest.geometry; }
    const HeldGallery& gallery() const { return *recipe_.gallery; }
    PictureSize input() const { return {geometry().height, geometry().width}; }
    const Index* index() const { return index_.get(); }  // of the embeddings; null: all are compared
    double tau() const { return recipe_.manifest.calibration->tau.value; }
    double theta() const { return recipe_.manifest.calibration->theta.value; }
    const std::optional<FrameLimits>& limits() const { return limits_; }
    const Judge& judge() const { return *judge_; }
    const FrameShapes& shapes() const { return *shapes_; }
    const uint8_t* ignore() const { return recipe_.ignore.empty() ? nullptr : recipe_.ignore.data(); }
    // (h, w) of the finest level, or null: not 0 at positions that cover ignored pixels alone.
    const uint8_t* ignored_distances() const {
        return ignored_distances_.empty() ? nullptr : ignored_distances_.data();
    }
    // Images' names as bytes, in the gallery's order.
    const std::vector<std::string>& image_names() const { return image_names_; }

    // The extractor on so many threads. Inspectors that ask for the same number share it while one of them lives. May
    // be called from any thread. Throws ExtractorError or RecipeError.
    std::shared_ptr<const Extractor> extractor(int threads) const;

 private:
    void check_reach() const;

    Recipe recipe_;
    std::unique_ptr<const Index> index_;
    std::optional<FrameLimits> limits_;
    std::optional<const Judge> judge_;
    std::optional<const FrameShapes> shapes_;
    std::vector<uint8_t> ignored_distances_;
    std::vector<std::string> image_names_;
    mutable std::mutex turn_;
    mutable std::map<int, std::weak_ptr<const Extractor>> extractors_;
};

}  // namespace spadeline
