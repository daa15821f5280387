// Calls of the CUDA matcher: small galleries with queries, buffers that the device reads and writes when a stream comes
// to them, and what a right answer is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/inspector.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

namespace spadeline::cuda {

inline constexpr char kPurpose[] = "a test";
inline constexpr int64_t kPixels = 6 * 9;

// Five small images. `asked` has each query's number of images and its kappa; the i-th query's images begin with the
// i-th.
struct Calls : Case {
    using Asked = std::vector<std::pair<int64_t, int64_t>>;
    explicit Calls(const Asked& asked)
        : Case{0,
               PyramidShape(6, 9, {{5, 0}, {16, 1}}),
               5,
               Storage::float32,
               Upsampling::nearest,
               1,
               false,
               {},
               {},
               {},
               {},
               {}} {
        Random random(1);
        const auto& levels = shape.levels();
        for (int64_t l = 0; l < 2; ++l) {
            weights.push_back(1);
            gallery.push_back(random_map(random, Values::smooth, levels[l], images));
            cells.push_back(to_cells(shape, l, gallery[l], images));
            bases.push_back(random_basis(random, cells[l].values, levels[l].channels, 16 * l));
        }
        for (const auto& [count, kappa] : asked) {
            Question q{{}, Storage::float32, {}, kappa, {}, {}, {}};
            for (const LevelShape& level : levels) q.query.push_back(random_map(random, Values::smooth, level, 1));
            for (const Map& map : q.query) q.views.push_back({map.data(), q.storage});
            const int64_t first = std::ssize(questions);
            for (int64_t id = first; id < first + count; ++id) q.ids.push_back(id % images);
            questions.push_back(std::move(q));
        }
        codes = encode(*this, kernels_named("auto"));
    }
    Gallery host() const { return gallery_of(*this, &codes); }
    int64_t image_bytes() const { return DeviceGallery(shape, host()).image_bytes(); }

    Codes codes;
};

inline void expect_right(const Case& c, const Question& q, const Answer& answer, const std::string& what) {
    const std::string mistake = Naive(c, q).mistake(answer);
    expect(mistake.empty(), what + ": " + mistake);
}

inline void wait(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose); }

// A query and its answer in pinned memory, which the device reads and writes when the stream comes to it.
struct Buffers {
    explicit Buffers(const Question& q) : numbers(kPixels * q.kappa * 3) {
        Layout layout(memory.data());
        for (size_t l = 0; l < 2; ++l) levels[l] = layout.take<float>(std::ssize(q.query[l].values));
        distances = layout.take<double>(kPixels);
        neighbours = layout.take<int32_t>(numbers);
        bring(q);
    }
    void bring(const Question& q) {
        for (size_t l = 0; l < 2; ++l) std::ranges::copy(q.query[l].values, static_cast<float*>(levels[l]));
    }
    Answer answer(Statistics statistics) const {
        return {{distances, distances + kPixels}, {neighbours, neighbours + numbers}, statistics};
    }

    static constexpr int64_t kBytes = 32 << 10;
    const PinnedMemory memory{kBytes, kPurpose};
    const int64_t numbers;
    void* levels[2];
    double* distances;
    int32_t* neighbours;
};

inline Answer match(CudaMatcher& matcher, const Case& c, const Question& q) {
    Answer answer;
    answer.statistics = matcher.match(request_for(c, q, kGuardShare, answer));
    return answer;
}

inline bool same(const Answer& a, const Answer& b) {
    return a.distances == b.distances && a.neighbours == b.neighbours;
}

}  // namespace spadeline::cuda
