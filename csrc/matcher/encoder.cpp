#include "matcher/encoder.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "matcher/arithmetic.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

constexpr int64_t kDimStep =
    16;  // floats of the widest register: then a code is whole registers on every instruction set

// splitmix64: the same signs on every machine, part of the codes' version.
float sign_of(uint64_t channel) {
    uint64_t z = (channel + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) >> 63 ? -1.0f : 1.0f;
}

// The Frobenius norm of B B^T - 1 for the rows B: how far the rows are from orthonormal ones.
double defect_of(const float* basis, int64_t rows, int64_t channels) {
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j <= i; ++j) {
            double product = i == j ? -1 : 0;
            for (int64_t c = 0; c < channels; ++c)
                product += static_cast<double>(basis[i * channels + c]) * basis[j * channels + c];
            sum += (i == j ? 1 : 2) * product * product;
        }
    return std::sqrt(sum);
}

void pack(const CodeRows& from, int64_t dims, int64_t first, int64_t count, int64_t group, uint8_t* record) {
    auto* terms = reinterpret_cast<float*>(record + dims * group);
    for (int64_t g = 0; g < group; ++g) {
        const int64_t row = first + g;
        for (int64_t d = 0; d < dims; ++d)
            record[(d / 4 * group + g) * 4 + d % 4] =
                static_cast<uint8_t>((row < count ? from.codes[row * dims + d] : 0) + kByteOffset);
        for (int64_t t = 0; t < kTerms; ++t)
            terms[t * group + g] = row < count ? from.terms[row * kTerms + t]
                                   : t == 1    ? std::numeric_limits<float>::infinity()
                                               : 0.0f;
    }
}

}  // namespace

int64_t dims_of(int64_t channels, int64_t directions) { return directions ? directions : round_up(channels, kDimStep); }

LevelEncoder::LevelEncoder(const Kernels& kernels, int64_t channels, int64_t directions, const float* basis)
    : kernels_(kernels), mean_(basis, basis + channels) {
    const StandardArithmetic arithmetic;
    book_.channels = channels;
    book_.dims = dims_of(channels, directions);
    book_.mean = mean_.data();
    if (book_.dims > kMostDims)
        throw std::invalid_argument("codes: expected at most " + std::to_string(kMostDims) + " channels, got " +
                                    std::to_string(channels));
    if (directions == 0) {
        for (int64_t d = 0; d < book_.dims; ++d) signs_.push_back(sign_of(static_cast<uint64_t>(d)));
        book_.signs = signs_.data();
        return;
    }
    const double defect = defect_of(basis + channels, directions, channels);
    if (directions % kDimStep != 0 || directions > channels || !(defect < 1e-3))
        throw std::invalid_argument("codes: expected a multiple of " + std::to_string(kDimStep) +
                                    " orthonormal directions, got " + std::to_string(directions) + ", off by " +
                                    std::to_string(defect));
    // Each component of a projection is a sum of `channels` products: |error| <= gamma |direction| |x|.
    const double gamma = static_cast<double>(channels + 2) * 0x1p-24;
    book_.projection_error =
        static_cast<float>((gamma / (1 - gamma) * std::sqrt(static_cast<double>(directions)) + defect) * 1.01);
    kernels.pack_projection(book_, basis + channels, projection_.reserve(kernels.projection_floats(book_)));
    book_.projection = projection_.data();
}

void LevelEncoder::encode_records(const float* rows, int64_t count, int64_t group, uint8_t* records) const {
    const StandardArithmetic arithmetic;
    std::vector<int8_t> codes(count * book_.dims);
    std::vector<float> terms(count * kTerms);
    std::vector<int32_t> sums(count);
    const CodeRows encoded{codes.data(), terms.data(), sums.data()};
    AlignedBuffer<float> workspace;
    kernels_.encode(book_, rows, count, encoded, workspace.reserve(kernels_.encode_floats(book_)));
    for (int64_t first = 0; first < count; first += group)
        pack(encoded, book_.dims, first, count, group, records + first / group * record(group));
}

}  // namespace spadeline
