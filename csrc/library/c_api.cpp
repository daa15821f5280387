// The C interface: it checks handles and arguments, calls, and turns exceptions into codes and texts.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

#include "library/describe.hpp"
#include "library/errors.hpp"
#include "library/inspector.hpp"
#include "library/loaded_recipe.hpp"
#include "library/resources.hpp"
#include "spadeline/spadeline.h"

using namespace spadeline;

namespace {

// What a handle begins with, so that another pointer, or one that was freed, is most likely noticed.
constexpr uint64_t kRecipeMark = 0x7370616465726563, kInspectorMark = 0x7370616465696e73;
constexpr int64_t kLargestWidth = int64_t{1} << 31;

// Plain memory: it needs no destructor in threads that outlive the library.
thread_local char thread_text[1024] = "";

void keep(const char* text) {
    const size_t length = std::min(std::strlen(text), sizeof thread_text - 1);
    std::memcpy(thread_text, text, length);
    thread_text[length] = '\0';
}

}  // namespace

struct spadeline_recipe {
    uint64_t mark = kRecipeMark;
    const pid_t process = getpid();
    std::shared_ptr<const LoadedRecipe> loaded;
    std::string json;
};

struct spadeline_inspector {
    spadeline_inspector(std::shared_ptr<const LoadedRecipe> recipe, int threads)
        : inspector(std::move(recipe), threads), json(described(inspector)) {
        const PictureSize input = inspector.recipe().input();
        regions.reserve(
            static_cast<size_t>((input.height + 1) / 2 * ((input.width + 1) / 2)));  // as many as there can be
    }

    uint64_t mark = kInspectorMark;
    const pid_t process = getpid();
    std::atomic<bool> busy = false;
    Inspector inspector;
    const std::string json;
    Asked asked;
    spadeline_result result{};
    std::vector<spadeline_region> regions;
    std::string text;  // of the last error
};

namespace {

struct BadHandle : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct Busy : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Calls work() and returns its code. `text` gets the error's text, if it isn't null.
template <class Work>
int32_t guarded(std::string* text, const Work& work) noexcept {
    const auto failed = [&](int32_t code, const char* what) {
        keep(what);
        try {
            if (text) *text = what;
        } catch (...) {  // memory is short: the thread's text must do
        }
        return code;
    };
    try {
        work();
        return SPADELINE_OK;
    } catch (const BadHandle& error) {
        return failed(SPADELINE_HANDLE, error.what());
    } catch (const Busy& error) {
        return failed(SPADELINE_BUSY, error.what());
    } catch (const InputError& error) {
        return failed(SPADELINE_ARGUMENT, error.what());
    } catch (const std::invalid_argument& error) {
        return failed(SPADELINE_ARGUMENT, error.what());
    } catch (const RecipeError& error) {
        return failed(SPADELINE_RECIPE, error.what());
    } catch (const ExtractorError& error) {
        return failed(SPADELINE_EXTRACTOR, error.what());
    } catch (const NoDevice& error) {
        return failed(SPADELINE_DEVICE, error.what());
    } catch (const std::bad_alloc&) {
        return failed(SPADELINE_MEMORY, "memory is short");
    } catch (const std::exception& error) {
        return failed(SPADELINE_FAILED, error.what());
    } catch (...) {
        return failed(SPADELINE_FAILED, "an unknown failure");
    }
}

template <class T>
T& checked_out(T* pointer, const char* name) {
    if (!pointer) throw InputError(std::string(name) + ": expected a place to write to, got null");
    return *pointer;
}

// What is wrong with a handle; null if nothing is. A fork has none of the threads that work for a handle, and a lock
// may have been held when it was made, so that a call would never end.
template <class Handle>
const char* fault(const Handle* handle, uint64_t mark) {
    if (!handle) return "null";
    if (handle->mark != mark) return "something else";
    return handle->process == getpid() ? nullptr : "one from before a fork; load the recipe in the fork";
}

const spadeline_recipe& checked(const spadeline_recipe* recipe) {
    if (const char* came = fault(recipe, kRecipeMark))
        throw BadHandle(std::string("recipe: expected a handle of spadeline_load, got ") + came);
    return *recipe;
}

// One call's turn with an inspector.
class Turn {
 public:
    explicit Turn(spadeline_inspector* inspector) : inspector_(inspector) {
        if (const char* came = fault(inspector, kInspectorMark))
            throw BadHandle(std::string("inspector: expected a handle of spadeline_open, got ") + came);
        if (inspector->busy.exchange(true, std::memory_order_acquire))
            throw Busy(
                "inspector: expected one call at a time, got one during another; open an inspector for each "
                "thread");
    }
    ~Turn() { inspector_->busy.store(false, std::memory_order_release); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

 private:
    spadeline_inspector* inspector_;
};

// Calls work(inspector) in a turn of its own.
template <class Work>
int32_t in_turn(spadeline_inspector* inspector, const Work& work) noexcept {
    int32_t code = SPADELINE_OK;
    const int32_t without = guarded(nullptr, [&] {
        const Turn turn(inspector);
        code = guarded(&inspector->text, [&] { work(*inspector); });
    });
    return without == SPADELINE_OK ? code : without;
}

int32_t one_of(const char* name, int32_t value, int32_t most) {
    if (value < 0 || value > most)
        throw InputError(std::string(name) + ": expected a number from 0 to " + std::to_string(most) + ", got " +
                         std::to_string(value));
    return value;
}

Need checked_need(int32_t need, const Settings& settings) {
    one_of("need", need, SPADELINE_NEED_LABEL);
    return need == SPADELINE_NEED_RECIPE ? settings.need : static_cast<Need>(need - SPADELINE_NEED_MAP);
}

std::optional<double> checked_deadline(double deadline_s) {
    if (std::isnan(deadline_s)) throw InputError("deadline_s: expected a number, got NaN");
    return deadline_s < 0 ? std::nullopt : std::optional(deadline_s);
}

FrameView checked_frame(const uint8_t* pixels, int64_t height, int64_t width, int64_t pitch, int32_t color) {
    const auto kind = static_cast<Color>(one_of("color", color, SPADELINE_COLOR_BGRA));
    if (!pixels) throw InputError("pixels: expected a frame's, got null");
    if (width < 1 || width > kLargestWidth)
        throw InputError("width: expected 1 to " + std::to_string(kLargestWidth) + ", got " + std::to_string(width));
    return {pixels, height, width, pitch == 0 ? width * channels_of(kind) : pitch, kind};
}

void fill(spadeline_inspector& handle, const Result& from) {
    spadeline_result& to = handle.result;
    const Inspector& inspector = handle.inspector;
    const Geometry& geometry = inspector.recipe().geometry();
    to = {};
    to.struct_size = sizeof to;
    to.pred_label = from.verdict.reasons.any();
    to.reasons = from.verdict.reasons.bits();
    to.need = static_cast<int32_t>(from.need) + SPADELINE_NEED_MAP;
    to.decided = from.decided;
    to.pred_score = from.verdict.pred_score;
    to.image_score = from.image_score;
    to.map_score = from.map_score;
    to.map_height = geometry.height;
    to.map_width = geometry.width;
    to.anomaly_map = from.map;
    to.lower_map = from.lower_map;
    to.pred_mask = from.mask;
    handle.regions.clear();
    for (const Region& region : from.regions)
        handle.regions.push_back({region.area, region.box.top, region.box.left, region.box.bottom, region.box.right,
                                  region.peak_y, region.peak_x, region.score});
    to.region_count = static_cast<int64_t>(handle.regions.size());
    to.regions = handle.regions.data();
    to.grid_height = geometry.levels[0].height;
    to.grid_width = geometry.levels[0].width;
    to.kappa = inspector.recipe().settings().kappa;
    to.neighbours = from.neighbours.data();
    to.nearest_count = static_cast<int64_t>(from.nearest_images.size());
    to.nearest_images = from.nearest_images.data();
    to.prepare_s = from.timings.prepare_s;
    to.extract_s = from.timings.extract_s;
    to.retrieve_s = from.timings.retrieve_s;
    to.match_s = from.timings.match_s;
    to.map_s = from.timings.map_s;
    to.pairs = from.statistics.counts.pairs;
    std::copy_n(from.statistics.counts.passed, SPADELINE_MOST_LEVELS, to.passed);
    to.exact = from.statistics.counts.exact;
    to.guarded_cells = from.statistics.guarded_cells;
    to.passes = from.passes;
    to.warning = from.warning ? from.warning->c_str() : nullptr;
}

static_assert(SPADELINE_MOST_LEVELS == kMaxLevels);
static_assert(static_cast<int>(Need::label) == SPADELINE_NEED_LABEL - SPADELINE_NEED_MAP);
static_assert(static_cast<int>(Color::bgra) == SPADELINE_COLOR_BGRA && static_cast<int>(Color::gray) == 0);
static_assert(1 << static_cast<int>(Reason::unlike) == SPADELINE_REASON_UNLIKE);
static_assert(static_cast<int>(GalleryPlace::mapped) == SPADELINE_GALLERY_MAPPED);

}  // namespace

extern "C" {

const char* spadeline_version(void) { return SPADELINE_VERSION_TEXT; }

int32_t spadeline_abi(void) { return SPADELINE_ABI; }

const char* spadeline_error(void) { return thread_text; }

int32_t spadeline_load(const char* folder, int32_t device, int32_t gallery, int32_t verify, spadeline_recipe** recipe) {
    if (recipe) *recipe = nullptr;
    return guarded(nullptr, [&] {
        checked_out(recipe, "recipe");
        if (!folder) throw InputError("folder: expected a recipe's, got null");
        if (one_of("device", device, SPADELINE_DEVICE_CUDA) == SPADELINE_DEVICE_CUDA)
            throw NoDevice(
                "device: expected SPADELINE_DEVICE_AUTO or SPADELINE_DEVICE_CPU, since this library "
                "inspects on the CPU alone, got SPADELINE_DEVICE_CUDA");
        const auto place = static_cast<GalleryPlace>(one_of("gallery", gallery, SPADELINE_GALLERY_MAPPED));
        auto handle = std::make_unique<spadeline_recipe>();
        handle->loaded = std::make_shared<const LoadedRecipe>(folder, place, verify != 0);
        handle->json = described(*handle->loaded);
        *recipe = handle.release();
    });
}

void spadeline_free_recipe(spadeline_recipe* recipe) {
    if (fault(recipe, kRecipeMark)) return;
    recipe->mark = 0;
    delete recipe;
}

int32_t spadeline_describe(const spadeline_recipe* recipe, const char** json) {
    return guarded(nullptr, [&] { checked_out(json, "json") = checked(recipe).json.c_str(); });
}

int64_t spadeline_image_count(const spadeline_recipe* recipe) {
    int64_t count = -1;
    guarded(nullptr, [&] { count = static_cast<int64_t>(checked(recipe).loaded->image_names().size()); });
    return count;
}

const char* spadeline_image_name(const spadeline_recipe* recipe, int64_t index) {
    const char* name = nullptr;
    guarded(nullptr, [&] {
        const std::vector<std::string>& names = checked(recipe).loaded->image_names();
        if (index < 0 || index >= static_cast<int64_t>(names.size()))
            throw InputError("index: expected 0 to " + std::to_string(names.size() - 1) + ", got " +
                             std::to_string(index));
        name = names[static_cast<size_t>(index)].c_str();
    });
    return name;
}

int32_t spadeline_open(const spadeline_recipe* recipe, int32_t threads, int32_t need, double deadline_s,
                       spadeline_inspector** inspector) {
    if (inspector) *inspector = nullptr;
    return guarded(nullptr, [&] {
        checked_out(inspector, "inspector");
        const std::shared_ptr<const LoadedRecipe>& loaded = checked(recipe).loaded;
        one_of("threads", threads, kMostThreads);
        const Asked asked{checked_need(need, loaded->settings()), checked_deadline(deadline_s)};
        auto handle = std::make_unique<spadeline_inspector>(loaded, threads == 0 ? processors() : threads);
        handle->asked = asked;
        *inspector = handle.release();
    });
}

void spadeline_free_inspector(spadeline_inspector* inspector) {
    if (fault(inspector, kInspectorMark)) return;
    inspector->mark = 0;
    delete inspector;
}

int32_t spadeline_describe_inspector(spadeline_inspector* inspector, const char** json) {
    return in_turn(inspector, [&](spadeline_inspector& handle) { checked_out(json, "json") = handle.json.c_str(); });
}

int32_t spadeline_set_need(spadeline_inspector* inspector, int32_t need) {
    return in_turn(inspector, [&](spadeline_inspector& handle) {
        handle.asked.need = checked_need(need, handle.inspector.recipe().settings());
    });
}

int32_t spadeline_set_deadline(spadeline_inspector* inspector, double deadline_s) {
    return in_turn(inspector,
                   [&](spadeline_inspector& handle) { handle.asked.deadline_s = checked_deadline(deadline_s); });
}

int32_t spadeline_inspect(spadeline_inspector* inspector, const uint8_t* pixels, int64_t height, int64_t width,
                          int64_t pitch, int32_t color, const spadeline_result** result) {
    if (result) *result = nullptr;
    return in_turn(inspector, [&](spadeline_inspector& handle) {
        checked_out(result, "result");
        const FrameView frame = checked_frame(pixels, height, width, pitch, color);
        fill(handle, handle.inspector.inspect(frame, handle.asked));
        *result = &handle.result;
    });
}

const char* spadeline_inspector_error(const spadeline_inspector* inspector) {
    return fault(inspector, kInspectorMark) ? "" : inspector->text.c_str();
}

}  // extern "C"
