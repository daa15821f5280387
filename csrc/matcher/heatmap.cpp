#include "matcher/heatmap.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "matcher/aligned.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/codes.hpp"
#include "matcher/share_out.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

// Rows of the map that a worker takes at a time. The 224 rows of a usual map make 14 pieces of work. A piece enlarges
// the rows of the distances that it needs along x itself: the fewer rows, the more often that is repeated.
constexpr int64_t kPieceRows = 16;
// A map that takes fewer multiply-adds of registers is made by the caller's thread: waking a team up twice takes longer
// than what it saves. At 224 x 224 and sigma 4, AVX-512 takes 200,000 of them, 0.07 ms; AVX2 takes 400,000.
constexpr int64_t kLeastShared = 500'000;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Row `i` of a line of `count` rows that is mirrored at both ends without limit; the end rows are repeated.
int64_t mirrored(int64_t i, int64_t count) {
    const int64_t along = i % (2 * count), from = along < 0 ? along + 2 * count : along;
    return from < count ? from : 2 * count - 1 - from;
}

}  // namespace

double map_values(const double* distances, int64_t count, bool root, const uint8_t* ignored, float* values) {
    double largest = 0;
    bool numbers = true;
    for (int64_t i = 0; i < count; ++i) {
        const bool scored = !ignored || !ignored[i];
        const double distance = scored ? distances[i] : 0, value = root ? std::sqrt(distance) : distance;
        numbers &= value == value;
        largest = value > largest ? value : largest;
        values[i] = static_cast<float>(value < kLargestDistance ? value : kLargestDistance);
    }
    return numbers ? largest : std::numeric_limits<double>::quiet_NaN();
}

Heatmap::Heatmap(const Kernels& kernels, MapSize distances, MapSize map, double sigma, const uint8_t* ignore,
                 const uint8_t* ignored_distances)
    : kernels_(kernels) {
    const StandardArithmetic arithmetic;
    check_map(distances, map, sigma, ignore, ignored_distances);
    place_y_ = places(distances.height, map.height);
    place_x_ = places(distances.width, map.width);
    const std::vector<float> weights = gaussian(sigma);
    const auto radius = static_cast<int64_t>(weights.size() / 2), columns = round_up(map.width, kPanel);
    for (int64_t x = 0; x < columns; ++x) {
        const bool padding = x >= map.width;
        first_x_.push_back(padding ? first_x_.back() : place_x_[x].first);
        part_x_.push_back(padding ? 0 : place_x_[x].part);
        rest_x_.push_back(1 - part_x_.back());
    }
    weights_.resize(kMapRows - 1);
    weights_.insert(weights_.end(), weights.begin(), weights.end());
    weights_.resize(weights_.size() + kMapRows - 1);
    for (int64_t i = -radius; i < map.height + radius + kMapRows - 1; ++i) rows_y_.push_back(mirrored(i, map.height));
    // An odd number of cache lines from one row to the next: with a power of two, pixels that lie below each other
    // would push each other out of the cache.
    const int64_t stride = columns / kPanel % 2 ? columns : columns + kPanel;
    task_ = {distances.height, distances.width, map.height,     map.width,
             columns,          stride,          radius,         place_y_.data(),
             first_x_.data(),  part_x_.data(),  rest_x_.data(), weights_.data() + kMapRows - 1,
             rows_y_.data(),   nullptr,         nullptr};
    if (ignore) weigh(ignore, ignored_distances);
}

// Makes the divisors. bilinear(s) is the enlarged map of s itself, and Gaussian(S) the map, without the last division,
// of distances that are all 1, since they enlarge to S.
void Heatmap::weigh(const uint8_t* ignore, const uint8_t* ignored_distances) {
    const int64_t height = task_.map_height, width = task_.map_width, columns = task_.columns;
    const std::vector<float> scored = scored_of(ignored_distances, task_.height * task_.width);
    AlignedBuffer<float> workspace;
    workspace.reserve(floats());
    const float one[2 * kMapRows - 1] = {0, 0, 0, 1};
    static_assert(kMapRows == 4);
    MapTask enlarging = task_;
    enlarging.radius = 0;
    enlarging.weights = one + kMapRows - 1;
    enlarging.rows_y = task_.rows_y + task_.radius;
    divisor_.resize(height * width);
    run(enlarging, scored.data(), divisor_.data(), workspace.data(), nullptr);
    enlarged_divisor_.assign(height * columns, kInfinity);
    for (int64_t i = 0; i < height * width; ++i) {
        if (ignore[i]) continue;
        if (!(divisor_[i] > 0))
            throw std::invalid_argument(
                "ignored_distances: expected a scored distance at every scored pixel, got none at (" +
                std::to_string(i / width) + ", " + std::to_string(i % width) + ")");
        enlarged_divisor_[i / width * columns + i % width] = divisor_[i];
    }
    task_.enlarged_divisor = enlarged_divisor_.data();
    run(task_, scored.data(), divisor_.data(), workspace.data(), nullptr);
    for (int64_t i = 0; i < height * width; ++i)
        if (ignore[i]) divisor_[i] = kInfinity;
    task_.divisor = divisor_.data();
}

int64_t Heatmap::floats() const {
    return task_.map_height * task_.stride + ceil_div(task_.map_height, kPieceRows) * kernels_.map_floats(task_);
}

void Heatmap::make(const float* values, float* map, float* workspace, ThreadPool* pool) const {
    run(task_, values, map, workspace, pool);
}

void Heatmap::run(const MapTask& task, const float* values, float* map, float* workspace, ThreadPool* pool) const {
    const int64_t pieces = ceil_div(task.map_height, kPieceRows), lines = kernels_.map_floats(task);
    float* scratch = workspace + task.map_height * task.stride;
    const int64_t multiply_adds = task.map_height * task.columns * 2 * (2 * task.radius + 1);
    if (multiply_adds / kernels_.lanes < kLeastShared) pool = nullptr;
    const auto last = [&](int64_t i) { return std::min((i + 1) * kPieceRows, task.map_height); };
    share_out(pool, pieces, [&](int, int64_t i) {
        kernels_.smooth_rows(task, values, i * kPieceRows, last(i), workspace, scratch + i * lines);
    });
    share_out(pool, pieces,
              [&](int, int64_t i) { kernels_.smooth_columns(task, workspace, i * kPieceRows, last(i), map); });
}

std::pair<int64_t, int64_t> Heatmap::support(const std::vector<Place>& places, int64_t i) const {
    const auto count = static_cast<int64_t>(places.size());
    // What is mirrored at an end lies between that end and where the Gaussian ends on the other side.
    const Place first = places[std::max<int64_t>(i - task_.radius, 0)];
    const Place last = places[std::min(i + task_.radius, count - 1)];
    return {first.first, last.first + (last.part > 0 ? 2 : 1)};
}

}  // namespace spadeline
