// The C++ interface of spadeline, over the C interface in spadeline.h: handles that free themselves, spans, exceptions.
// C++20; nothing but the standard library is needed.
//
//     const spadeline::Recipe recipe("recipes/hazelnut");
//     spadeline::Inspector inspector(recipe);
//     const spadeline::Result result = inspector.inspect({pixels, height, width, spadeline::Color::bgr});
//     if (result.pred_label()) reject(result.regions());
//
// What spadeline.h says of threads and owners holds here, too: a recipe may be used from all threads, an inspector
// takes one call at a time, and a result can be read until its inspector's next inspection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "spadeline/spadeline.h"

namespace spadeline {

enum class Device { automatic = SPADELINE_DEVICE_AUTO, cpu = SPADELINE_DEVICE_CPU, cuda = SPADELINE_DEVICE_CUDA };

enum class Gallery {
    automatic = SPADELINE_GALLERY_AUTO,
    memory = SPADELINE_GALLERY_MEMORY,
    mapped = SPADELINE_GALLERY_MAPPED
};

enum class Need {
    recipe = SPADELINE_NEED_RECIPE,
    map = SPADELINE_NEED_MAP,
    mask = SPADELINE_NEED_MASK,
    label = SPADELINE_NEED_LABEL
};

enum class Color {
    gray = SPADELINE_COLOR_GRAY,
    rgb = SPADELINE_COLOR_RGB,
    bgr = SPADELINE_COLOR_BGR,
    rgba = SPADELINE_COLOR_RGBA,
    bgra = SPADELINE_COLOR_BGRA
};

// Whatever goes wrong; the text is one sentence.
class Error : public std::runtime_error {
 public:
    Error(spadeline_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
    spadeline_code code() const { return code_; }

 private:
    spadeline_code code_;
};

namespace detail {

inline void check(int32_t code) {
    if (code != SPADELINE_OK) throw Error(static_cast<spadeline_code>(code), spadeline_error());
}

}  // namespace detail

// A frame in the caller's memory: 8-bit, `height` rows of `width` pixels, `pitch` bytes from one row to the next; 0:
// the rows follow each other without gaps.
struct Frame {
    std::span<const uint8_t> pixels;
    int64_t height, width;
    Color color;
    int64_t pitch = 0;
};

struct RecipeOptions {
    Device device = Device::automatic;
    Gallery gallery = Gallery::automatic;
    bool verify = false;
};

struct InspectorOptions {
    int threads = 0;  // 0: the processors that this process may use
    Need need = Need::recipe;
    std::optional<double> deadline_s = {};  // seconds from the beginning of each inspection
};

// A loaded recipe; copies share it.
class Recipe {
 public:
    explicit Recipe(const std::string& folder, const RecipeOptions& options = {}) {
        spadeline_recipe* handle = nullptr;
        detail::check(spadeline_load(folder.c_str(), static_cast<int32_t>(options.device),
                                     static_cast<int32_t>(options.gallery), options.verify, &handle));
        handle_.reset(handle, spadeline_free_recipe);
    }

    // As JSON. The text lives as long as the recipe.
    std::string_view describe() const {
        const char* json = nullptr;
        detail::check(spadeline_describe(handle_.get(), &json));
        return json;
    }
    int64_t image_count() const { return spadeline_image_count(handle_.get()); }
    // The name of a normal image, in the bytes of a file name. It lives as long as the recipe.
    std::string_view image_name(int64_t index) const {
        const char* name = spadeline_image_name(handle_.get(), index);
        if (!name) throw Error(SPADELINE_ARGUMENT, spadeline_error());
        return name;
    }
    const spadeline_recipe* handle() const { return handle_.get(); }

 private:
    std::shared_ptr<spadeline_recipe> handle_;
};

// One frame's result, until its inspector's next inspection: spadeline_result says what each part means.
class Result {
 public:
    explicit Result(const spadeline_result& result) : result_(&result) {}

    bool pred_label() const { return result_->pred_label != 0; }
    double pred_score() const { return result_->pred_score; }
    double image_score() const { return result_->image_score; }
    double map_score() const { return result_->map_score; }
    bool has(spadeline_reason reason) const { return (result_->reasons & static_cast<uint32_t>(reason)) != 0; }
    bool decided() const { return result_->decided != 0; }
    Need need() const { return static_cast<Need>(result_->need); }
    std::span<const float> anomaly_map() const { return {result_->anomaly_map, pixels()}; }
    std::span<const float> lower_map() const { return {result_->lower_map, pixels()}; }
    std::span<const uint8_t> pred_mask() const { return {result_->pred_mask, pixels()}; }
    int64_t map_height() const { return result_->map_height; }
    int64_t map_width() const { return result_->map_width; }
    std::span<const spadeline_region> regions() const {
        return {result_->regions, static_cast<size_t>(result_->region_count)};
    }
    std::span<const int32_t> neighbours() const {
        return {result_->neighbours,
                static_cast<size_t>(result_->grid_height * result_->grid_width * result_->kappa * 3)};
    }
    std::span<const int64_t> nearest_images() const {
        return {result_->nearest_images, static_cast<size_t>(result_->nearest_count)};
    }
    // Empty, or what the recipe wants to be warned of.
    std::string_view warning() const { return result_->warning ? result_->warning : std::string_view(); }
    // Also the stages' seconds, and what the matcher had to compute.
    const spadeline_result& all() const { return *result_; }

 private:
    size_t pixels() const { return static_cast<size_t>(result_->map_height * result_->map_width); }

    const spadeline_result* result_;
};

// One line's inspections with a recipe, which it keeps.
class Inspector {
 public:
    explicit Inspector(const Recipe& recipe, const InspectorOptions& options = {}) {
        spadeline_inspector* handle = nullptr;
        detail::check(spadeline_open(recipe.handle(), options.threads, static_cast<int32_t>(options.need),
                                     options.deadline_s.value_or(-1), &handle));
        handle_.reset(handle);
    }

    Result inspect(const Frame& frame) {
        check_size(frame);
        const spadeline_result* result = nullptr;
        detail::check(spadeline_inspect(handle_.get(), frame.pixels.data(), frame.height, frame.width, frame.pitch,
                                        static_cast<int32_t>(frame.color), &result));
        return Result(*result);
    }
    void set_need(Need need) { detail::check(spadeline_set_need(handle_.get(), static_cast<int32_t>(need))); }
    void set_deadline(std::optional<double> deadline_s) {
        detail::check(spadeline_set_deadline(handle_.get(), deadline_s.value_or(-1)));
    }
    // As JSON. The text lives as long as the inspector.
    std::string_view describe() const {
        const char* json = nullptr;
        detail::check(spadeline_describe_inspector(handle_.get(), &json));
        return json;
    }

 private:
    // The span must hold the rows, the last one without what may lie behind it.
    static void check_size(const Frame& frame) {
        constexpr int64_t kMost = int64_t{1} << 31;  // of each side, so that nothing below overflows
        const int64_t bytes = frame.color == Color::gray                               ? 1
                              : frame.color == Color::rgb || frame.color == Color::bgr ? 3
                                                                                       : 4;
        if (frame.height < 1 || frame.height > kMost || frame.width < 1 || frame.width > kMost || frame.pitch < 0 ||
            frame.pitch > kMost * 4)
            return;  // the library refuses it
        const int64_t row = frame.width * bytes, pitch = frame.pitch == 0 ? row : frame.pitch;
        const int64_t most = INT64_MAX - row;
        const bool fits = frame.height - 1 <= most / pitch &&
                          (frame.height - 1) * pitch + row <= static_cast<int64_t>(frame.pixels.size());
        if (!fits)
            throw Error(SPADELINE_ARGUMENT, "pixels: expected " + std::to_string(frame.height) + " rows of " +
                                                std::to_string(row) + " bytes, " + std::to_string(pitch) +
                                                " bytes apart, got " + std::to_string(frame.pixels.size()) + " bytes");
    }

    struct Free {
        void operator()(spadeline_inspector* handle) const { spadeline_free_inspector(handle); }
    };
    std::unique_ptr<spadeline_inspector, Free> handle_;
};

}  // namespace spadeline
