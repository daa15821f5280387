// One frame's way to its result, on the CPU: prepare, extract, retrieve, match, map, regions, verdict. The steps, and
// what is known where nothing is searched, are those of engine/inspect/chains.py and scoring.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "library/extractor.hpp"
#include "library/loaded_recipe.hpp"
#include "matcher/heatmap.hpp"
#include "matcher/matcher.hpp"
#include "runtime/frame.hpp"
#include "runtime/frame_facts.hpp"
#include "runtime/regions.hpp"
#include "runtime/retrieval.hpp"
#include "runtime/verdict.hpp"

namespace spadeline {

// What is asked of a frame.
struct Asked {
    Need need = Need::map;
    std::optional<double> deadline_s;  // seconds from the call, 0 or more
};

struct Timings {
    double prepare_s, extract_s, retrieve_s, match_s, map_s;
};

// A frame's result: engine/result.py says what each part means. All of it belongs to the inspector.
struct Result {
    Verdict verdict{};
    double image_score = 0, map_score = 0;
    const float *map = nullptr, *lower_map = nullptr;  // (H, W); the same if the map is exact
    const uint8_t* mask = nullptr;                     // (H, W)
    std::span<const Region> regions;
    std::span<const int32_t> neighbours;  // (h, w, kappa, 3)
    std::span<const int64_t> nearest_images;
    Need need = Need::map;
    bool decided = true;
    Statistics statistics;
    int64_t passes = 0;
    Timings timings{};
    std::optional<std::string> warning;  // of the frame's proportions
};

// One caller at a time. Frames of the size of the last one are inspected without an allocation of this library's own.
class Inspector {
 public:
    Inspector(std::shared_ptr<const LoadedRecipe> recipe, int threads);
    Inspector(const Inspector&) = delete;
    Inspector& operator=(const Inspector&) = delete;

    const LoadedRecipe& recipe() const { return *recipe_; }
    const Extractor& extractor() const { return *extractor_; }
    const Matcher& matcher() const { return matcher_; }
    bool pruned() const { return pruned_; }

    // Valid until the next call. Throws InputError or std::invalid_argument for a frame that can't be inspected, and
    // ExtractorError.
    const Result& inspect(const FrameView& frame, const Asked& asked);

 private:
    using Time = double;  // seconds, by a clock that never goes back

    void retrieve();
    void search(const Asked& asked, Time start);
    void search_all();
    void search_needed(const Asked& asked, Time deadline);
    void skip_search(bool decided);
    Request request();
    void judge(const FrameView& frame, const Placement& placement, bool label_alone);

    const std::shared_ptr<const LoadedRecipe> recipe_;
    const std::shared_ptr<const Extractor> extractor_;
    const bool pruned_;
    Matcher matcher_;
    Preparation preparation_;
    FactsMeter meter_;
    Extraction extraction_;
    Retrieval retrieval_;
    const Heatmap heatmap_;
    ThreadPool map_pool_;
    RegionFinder finder_;
    Known known_{};
    std::vector<int64_t> nearest_;
    std::vector<double> distances_;    // (h, w)
    std::vector<float> values_;        // (h, w)
    std::vector<int32_t> neighbours_;  // (h, w, kappa, 3)
    AlignedBuffer<float> workspace_;   // of the map
    std::vector<float> upper_, lower_;
    std::vector<uint8_t> mask_;
    Result result_;
};

}  // namespace spadeline
