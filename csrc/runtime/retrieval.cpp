#include "runtime/retrieval.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>

namespace spadeline {
namespace {

constexpr int64_t kLanes = 8;  // sums of their own, of every eighth square each, which are added in pairs at the end

std::string short_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", value);
    return text;
}

template <class Items, class Value>
double mean_score(const Items& items, const Value& value, bool root) {
    double sum = 0;
    for (const auto& item : items) sum += value(item);
    const double mean = sum / static_cast<double>(items.size());
    return root ? std::sqrt(mean) : mean;
}

}  // namespace

float squared_distance(const float* a, const float* b, int64_t size) {
    double sums[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
        for (int64_t k = 0; k < kLanes; ++k) {
            const double difference = a[i + k] - b[i + k];
            sums[k] += difference * difference;  // the square is exact: fusing it with the sum changes nothing
        }
    }
    for (int64_t k = 0; i < size; ++i, ++k) {
        const double difference = a[i] - b[i];
        sums[k] += difference * difference;
    }
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
        for (int64_t k = 0; k < half; ++k) sums[k] += sums[k + half];
    return static_cast<float>(sums[0]);
}

float largest_embedding(int64_t size) {
    return static_cast<float>(
        std::sqrt(static_cast<double>(std::numeric_limits<float>::max()) / static_cast<double>(size)) / 4);
}

void check_embeddings(const std::string& name, std::span<const float> values, int64_t size) {
    const float largest = largest_embedding(size);
    bool within = true;
    for (const float value : values) within &= std::abs(value) <= largest;  // NaN, too, fails this
    if (within) return;
    float low = values[0], high = values[0];
    for (const float value : values) {
        low = value < low || std::isnan(value) ? value : low;
        high = value > high || std::isnan(value) ? value : high;
    }
    throw std::invalid_argument(name + ": expected numbers from " + short_text(-largest) + " to " +
                                short_text(largest) + ", whose squared distances float32 holds, got " +
                                short_text(low < -largest ? low : high));
}

std::span<const NearImage> rank(const float* embeddings, int64_t size, const float* embedding,
                                std::span<NearImage> candidates, int64_t k) {
    for (NearImage& candidate : candidates)
        candidate.squared = squared_distance(embeddings + candidate.image * size, embedding, size);
    k = std::min(k, static_cast<int64_t>(candidates.size()));
    std::partial_sort(candidates.begin(), candidates.begin() + k, candidates.end());
    return candidates.first(k);
}

Retrieval::Retrieval(const float* embeddings, int64_t count, int64_t size, const Index* index)
    : embeddings_(embeddings), count_(count), size_(size), index_(index) {
    candidates_.reserve(count);
}

std::span<const NearImage> Retrieval::nearest(const float* embedding, int64_t k, ImageRange exclude) {
    check_embeddings("embedding", {embedding, static_cast<size_t>(size_)}, size_);
    candidates_.clear();
    if (index_) {
        index_->find(embedding, std::min(k + exclude.end - exclude.first, count_), candidates_);
        std::erase_if(candidates_, [&](const NearImage& found) { return exclude.contains(found.image); });
    } else {
        for (int64_t image = 0; image < count_; ++image)
            if (!exclude.contains(image)) candidates_.push_back({0, image});
    }
    return rank(embeddings_, size_, embedding, candidates_, k);
}

double image_score(std::span<const NearImage> nearest, bool root) {
    return mean_score(nearest, [](const NearImage& image) { return image.squared; }, root);
}

double image_score(std::span<const float> squared, bool root) {
    return mean_score(squared, [](float value) { return value; }, root);
}

}  // namespace spadeline
