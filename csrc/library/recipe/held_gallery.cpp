// The gallery in memory, or mapped where its files lie.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "library/errors.hpp"
#include "library/recipe/recipe.hpp"
#include "library/resources.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {
namespace {

constexpr double kMostOfAvailable = 0.5;  // that `automatic` takes: extractor, frames and other processes need memory
// By which a basis's directions may miss being orthonormal (Frobenius): just below the encoder's limit, 1e-3.
constexpr double kLargestDefect = 9e-4;

}  // namespace

HeldGallery::HeldGallery(const Manifest& manifest, const std::string& folder, GalleryPlace place, bool verify) {
    const Geometry& geometry = manifest.geometry;
    const auto images = static_cast<int64_t>(manifest.images.size());
    const size_t levels = geometry.levels.size();
    const auto add = [&](const std::string& role, ArrayLayout layout) {
        arrays_.emplace_back(folder, manifest.files.at(role), std::move(layout));
        return arrays_.size() - 1;
    };
    add(kEmbeddingsRole, {"<f4", {images, geometry.embedding_size}});
    for (size_t l = 0; l < levels; ++l)
        add(geometry.level_names[l], geometry.level_layout(l, images, manifest.settings.storage));
    struct Codes {
        size_t basis = 0, projected = 0, rotated = 0;  // 0: none
    };
    std::vector<Codes> codes(manifest.has_codes ? levels : 0);
    for (size_t l = 0; l < codes.size(); ++l) {
        const CodeLayout layout = geometry.code_layout(l);
        const std::string& name = geometry.level_names[l];
        codes[l].basis = add(code_role("basis", name), {"<f4", {1 + layout.directions, geometry.levels[l].channels}});
        for (const auto& [kind, records, index] : {std::tuple("projected", &layout.projected, &codes[l].projected),
                                                   std::tuple("rotated", &layout.rotated, &codes[l].rotated)})
            if (!records->empty())
                *index = add(code_role(kind, name), {"|u1", {images, records->at(0), records->at(1)}});
    }
    mapped_ = place == GalleryPlace::mapped || !has_room(place);
    std::vector<bool> in_memory(arrays_.size(), !mapped_);
    in_memory[0] = true;
    for (const Codes& level : codes) in_memory[level.basis] = true;
    hold(in_memory, verify);
    arrays_[0].check_finite(data(0));
    embeddings_ = static_cast<const float*>(data(0));
    gallery_.images = images;
    gallery_.storage = manifest.settings.storage;
    gallery_.weights = manifest.settings.level_weights;
    if (gallery_.weights.empty()) gallery_.weights.assign(levels, 1.0);
    for (size_t l = 0; l < levels; ++l) gallery_.levels.push_back(data(1 + l));
    for (const Codes& level : codes) {
        check_basis(level.basis);
        const auto records = [&](size_t array) { return array ? static_cast<const uint8_t*>(data(array)) : nullptr; };
        gallery_.codes.push_back({static_cast<const float*>(data(level.basis)),
                                  arrays_[level.basis].layout().shape[0] - 1, records(level.projected),
                                  records(level.rotated)});
    }
}

bool HeldGallery::has_room(GalleryPlace place) const {
    int64_t needed = 0;
    for (const StoredArray& array : arrays_) needed += array.layout().bytes();
    const int64_t available = available_memory();
    if (place == GalleryPlace::memory && needed > available)
        throw InputError("gallery: expected one that fits into the " + megabytes(available) +
                         " of memory that are available, got " + megabytes(needed) +
                         "; take gallery 'mapped', and never write into its files");
    return place == GalleryPlace::memory ||
           static_cast<double>(needed) <= kMostOfAvailable * static_cast<double>(available);
}

// Reads and checks the files side by side: hashing takes longer than reading.
void HeldGallery::hold(const std::vector<bool>& in_memory, bool verify) {
    pages_.resize(arrays_.size());
    std::vector<size_t> order(arrays_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    // The largest array isn't left to the end, for one thread.
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return arrays_[a].file().size() > arrays_[b].file().size(); });
    std::atomic<size_t> next = 0;
    ThreadPool pool(static_cast<int>(std::min<size_t>(static_cast<size_t>(processors()), order.size())));
    pool.run([&](int) {
        for (size_t i = next++; i < order.size(); i = next++) {
            const size_t array = order[i];
            const OpenedFile& file = arrays_[array].file();
            pages_[array] = in_memory[array] ? file.read() : file.mapped();
            if (verify && !in_memory[array]) file.check(pages_[array].data());
            if (verify) arrays_[array].check_finite(data(array));
        }
    });
}

// A basis is what distances can be bounded by: finite, its directions orthonormal.
void HeldGallery::check_basis(size_t array) const {
    arrays_[array].check_finite(data(array));
    const auto* basis = static_cast<const float*>(data(array));
    const int64_t directions = arrays_[array].layout().shape[0] - 1, channels = arrays_[array].layout().shape[1];
    double sum = 0;
    for (int64_t i = 1; i <= directions; ++i)
        for (int64_t j = 1; j <= i; ++j) {
            double product = i == j ? -1 : 0;
            for (int64_t c = 0; c < channels; ++c)
                product += static_cast<double>(basis[i * channels + c]) * basis[j * channels + c];
            sum += (i == j ? 1 : 2) * product * product;
        }
    if (!(std::sqrt(sum) < kLargestDefect))
        throw RecipeError(arrays_[array].file().path() +
                          ": basis: expected orthonormal directions, got ones that are off by " +
                          std::to_string(std::sqrt(sum)));
}

}  // namespace spadeline
