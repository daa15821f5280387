// Runs an extractor's ONNX file by ONNX Runtime, on the CPU: a uint8 RGB image to pyramid levels and an embedding. The
// contract, its checks, the session's options and the limits of time and memory are those of Python: see
// engine/extract/extractor.py, session.py and limits.py.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "library/recipe/geometry.hpp"
#include "library/recipe/recipe.hpp"
#include "matcher/search.hpp"

namespace spadeline {

// ONNX Runtime's version, as in "1.32.0".
std::string runtime_version();

// A graph that is loaded and tried out. Any number of threads may run it at the same time.
class Extractor {
 public:
    // Throws ExtractorError: a graph that can't be loaded, breaks the contract, or takes more time or memory than it
    // may. Throws RecipeError if its shapes aren't those of the recipe's geometry.
    Extractor(const Recipe& recipe, int threads);
    ~Extractor();
    Extractor(const Extractor&) = delete;
    Extractor& operator=(const Extractor&) = delete;

    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    std::string precision() const;
    int64_t neighbourhood() const { return neighbourhood_; }

 private:
    friend class Extraction;
    struct Session;

    void check_input();
    void check_outputs();
    void try_out(const Recipe& recipe);

    std::string path_;
    std::shared_ptr<Session> session_;
    std::map<std::string, std::string> metadata_;
    int64_t neighbourhood_ = 1;
    int64_t height_ = 0, width_ = 0;
    std::vector<std::string> names_;            // of the outputs: the levels, then the embedding
    std::vector<Storage> storage_;              // of the outputs
    std::vector<std::vector<int64_t>> shapes_;  // of the outputs, for one image
};

// One caller's images and features: buffers that are made and bound once.
class Extraction {
 public:
    explicit Extraction(std::shared_ptr<const Extractor> extractor);
    ~Extraction();
    Extraction(Extraction&&) = delete;
    Extraction& operator=(Extraction&&) = delete;

    uint8_t* image();  // (H, W, 3) RGB, to be written by the caller
    // Runs the graph on the image. Throws ExtractorError.
    void run();
    const std::vector<QueryLevel>& levels() const { return levels_; }
    const float* embedding() const { return embedding_.data(); }

 private:
    struct Buffers;

    std::shared_ptr<const Extractor> extractor_;
    std::unique_ptr<Buffers> buffers_;
    std::vector<QueryLevel> levels_;
    std::vector<float> embedding_;
};

}  // namespace spadeline
