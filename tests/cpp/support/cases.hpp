// Random cases for the matcher: a pyramid, its codes, and queries. A seed gives the same case on every machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "matcher/encoder.hpp"
#include "matcher/matcher.hpp"
#include "support/bases.hpp"
#include "support/features.hpp"

namespace spadeline {

struct Question {
    std::vector<Map> query;  // one a level
    Storage storage;
    std::vector<int64_t> ids;
    int64_t kappa;
    std::optional<int64_t> window;
    std::vector<uint8_t> ignore;    // empty if everything is scored
    std::vector<QueryLevel> views;  // of `query`
};

struct Case {
    uint64_t seed;
    PyramidShape shape;
    int64_t images;
    Storage storage;
    Upsampling upsampling;
    int threads;
    bool exact;  // a level's sums are sums of whole numbers, without roundings
    std::vector<double> weights;
    std::vector<Map> gallery;               // (images, channels, height, width) a level
    std::vector<Map> cells;                 // the same in the matcher's layout
    std::vector<std::vector<float>> bases;  // (1 + directions, channels) a level
    std::vector<Question> questions;
};

// A case's codes as one instruction set makes them.
struct Codes {
    std::vector<std::vector<uint8_t>> projected, rotated;  // one a level, empty where it has none
};

Codes encode(const Case& c, const Kernels& kernels);

Gallery gallery_of(const Case& c, const Codes* codes);

// A case and a question in words, for failures.
std::string text_of(const Case& c, const Question& q);

Question random_question(Random& random, const Case& c, const std::vector<Values>& values);

// Makes a case. Without a `shape` it is random. With `chosen` values all levels have them, and the gallery is float32.
Case random_case(uint64_t seed, int64_t question_count = 1, const std::optional<PyramidShape>& shape = {},
                 const std::optional<Values>& chosen = {});

}  // namespace spadeline
