// Retrieval: the normal images whose embeddings are nearest to a frame's, and the image's score. A frame is compared
// with all images, or with the candidates that an index finds. Python, where faiss finds candidates, ranks these with
// the same functions, so that both find the same images at the same distances.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spadeline {

// sum((a - b)²) of `size` float32. Differences are rounded to float32, their squares are added in float64, in a fixed
// order, and the sum is rounded to float32: the same bits on every machine. The caller sees to the environment
// (matcher/arithmetic.hpp), here and below.
float squared_distance(const float* a, const float* b, int64_t size);

// The largest magnitude that the numbers of an embedding may have. With it, no squared distance of two embeddings
// overflows float32: two differ by at most twice this magnitude in each number, and 4 * size * largest² is a quarter of
// float32's range, which leaves room for an index's intermediate results.
float largest_embedding(int64_t size);

// Throws std::invalid_argument, which begins with `name`, unless all values lie within that magnitude.
void check_embeddings(const std::string& name, std::span<const float> values, int64_t size);

// An image and its squared distance. Nearer ones come first, of equal distances the smaller image.
struct NearImage {
    float squared;
    int64_t image;
    auto operator<=>(const NearImage&) const = default;
};

// The images from `first` to `end` - 1.
struct ImageRange {
    int64_t first = 0, end = 0;
    bool contains(int64_t image) const { return first <= image && image < end; }
};

// Writes the nearest of `candidates`, rows of the (n, size) embeddings, to the front, sorted, and returns these, at
// most k. Their distances are computed here.
std::span<const NearImage> rank(const float* embeddings, int64_t size, const float* embedding,
                                std::span<NearImage> candidates, int64_t k);

// Finds images that may be near, without a promise that the nearest are among them.
class Index {
 public:
    virtual ~Index() = default;

    // Writes the images near `embedding` to `candidates`, `reach` or more if it finds as many, without distances. May
    // be called from several threads at the same time.
    virtual void find(const float* embedding, int64_t reach, std::vector<NearImage>& candidates) const = 0;
};

// One caller at a time; several objects may share the embeddings and the index.
class Retrieval {
 public:
    // `embeddings`: (count, size), checked by check_embeddings. `index`: over these; null: all are compared. Both must
    // outlive this.
    Retrieval(const float* embeddings, int64_t count, int64_t size, const Index* index = nullptr);

    int64_t count() const { return count_; }
    int64_t size() const { return size_; }
    const float* row(int64_t image) const { return embeddings_ + image * size_; }

    // The k nearest images, or all that are found, but for `exclude`: images to leave out, such as a normal image that
    // must not find itself. Valid until the next call. Throws std::invalid_argument for an embedding that
    // check_embeddings refuses.
    std::span<const NearImage> nearest(const float* embedding, int64_t k, ImageRange exclude = {});

 private:
    const float* embeddings_;
    const int64_t count_, size_;
    const Index* index_;
    std::vector<NearImage> candidates_;
};

// The mean of the squared distances of the nearest images, those that k_score asks for, or its root.
double image_score(std::span<const NearImage> nearest, bool root);
double image_score(std::span<const float> squared, bool root);

}  // namespace spadeline
