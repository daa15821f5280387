// The shapes of an extractor's input and outputs for one image, and of the arrays that a recipe stores of them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "matcher/match_task.hpp"
#include "matcher/pyramid.hpp"

namespace spadeline {

using Json = nlohmann::json;

inline constexpr int64_t kMostPixels = 100'000'000;  // of an extractor's input
inline constexpr int64_t kLongestSide = int64_t{1} << 15;

// What the header of a .npy file says.
struct ArrayLayout {
    std::string type;  // "<f4", "<f2", "|u1" or "|b1"
    std::vector<int64_t> shape;

    int64_t item() const;  // bytes of a number
    int64_t bytes() const;
    std::string described() const;  // as in "float32 (3, 6)"
};

// The shapes of one level's codes: see engine/match/codes.py.
struct CodeLayout {
    int64_t directions = 0;          // of the basis, which is (1 + directions, channels)
    std::vector<int64_t> projected;  // (groups, record) of one image; empty where the level has none
    std::vector<int64_t> rotated;    // likewise
};

struct Geometry {
    int64_t height = 0, width = 0;  // of the extractor's input
    std::vector<std::string> level_names;
    std::vector<LevelShape> levels;  // finest first
    int64_t embedding_size = 0;

    PyramidShape pyramid() const;
    // (images, rows, columns, 4^depth, channels)
    ArrayLayout level_layout(size_t level, int64_t images, Storage storage) const;
    bool can_have_codes() const;
    CodeLayout code_layout(size_t level) const;
};

// Throws InputError.
Geometry geometry_of(const Json& content);

// Shifts of levels of these sizes, finest first; throws InputError unless each is the one before halved once or more.
void find_shifts(std::vector<LevelShape>& levels);

// Whether a level's name is "layer" and a number from 1 to 99: a recipe's files are named after its levels.
bool is_level_name(const std::string& name);

}  // namespace spadeline
