// A recipe opened for inspecting: recipe.json, and the files that it named at that moment, checked and held. Recipes
// are made and changed by Python.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "library/recipe/arrays.hpp"
#include "library/recipe/manifest.hpp"
#include "matcher/matcher.hpp"

namespace spadeline {

// Where the gallery lies. `memory`: in this process's memory, the SHA-256 of each file compared. `mapped`: levels and
// codes stay in their files, which must not be written into. `automatic`: memory if it takes no more than half of what
// is available.
enum class GalleryPlace { automatic, memory, mapped };

// Embeddings, levels and codes as the matcher and the retrieval read them.
class HeldGallery {
 public:
    // Throws RecipeError, or InputError for a gallery that doesn't fit into memory. `verify`: also reads mapped files
    // through, and checks that all features are finite.
    HeldGallery(const Manifest& manifest, const std::string& folder, GalleryPlace place, bool verify);

    bool mapped() const { return mapped_; }
    const float* embeddings() const { return embeddings_; }
    const Gallery& levels() const { return gallery_; }

 private:
    bool has_room(GalleryPlace place) const;
    void hold(const std::vector<bool>& in_memory, bool verify);
    const void* data(size_t array) const { return pages_[array].data() + arrays_[array].offset(); }
    void check_basis(size_t array) const;

    std::vector<StoredArray> arrays_;
    std::vector<Pages> pages_;  // of each array
    bool mapped_ = false;
    const float* embeddings_ = nullptr;
    Gallery gallery_;
};

struct Recipe {
    std::string folder;
    Manifest manifest;
    std::unique_ptr<const HeldGallery> gallery;
    std::vector<uint8_t> ignore;  // (H, W): not 0 at pixels of the extractor's input that aren't scored; or empty
    Pages extractor;              // the ONNX file, verified

    std::string extractor_path() const { return folder + "/" + manifest.files.at(kExtractorRole).name; }
};

// Throws RecipeError, which names the file, or InputError as HeldGallery does.
Recipe load_recipe(const std::string& folder, GalleryPlace place, bool verify);

}  // namespace spadeline
