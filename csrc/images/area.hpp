// Shrinks a frame to a picture that is no larger in either side: each pixel is the average of the area that it covers,
// as OpenCV's INTER_AREA computes it, to the same bytes (csrc/README.md, "Frames"). Sides that grow, colours and files
// aren't dealt with here.
#pragma once

#include <cstdint>
#include <vector>

#include "images/area_task.hpp"
#include "matcher/aligned.hpp"
#include "matcher/match_task.hpp"
#include "matcher/thread_pool.hpp"

namespace spadeline {

inline constexpr int64_t kMostSide = 1 << 20;  // of a frame, in pixels

struct PictureSize {
    int64_t height, width;
    bool operator==(const PictureSize&) const = default;
};

// What no frame of a size changes. Any number of threads may shrink frames with one.
class AreaResize {
 public:
    // `channels`, the frame's, is 1, 3 or 4. The picture has 1 or 3: a fourth one is left out. Throws
    // std::invalid_argument.
    AreaResize(const Kernels& kernels, PictureSize frame, PictureSize out, int64_t channels);
    AreaResize(const AreaResize&) = delete;  // the task points into what this object owns
    AreaResize& operator=(const AreaResize&) = delete;

    PictureSize frame() const { return frame_; }
    PictureSize out() const { return out_; }
    int64_t channels() const { return task_.channels; }

    // Floats of workspace that `make` needs with `pool`, aligned as an AlignedBuffer is.
    int64_t floats(const ThreadPool* pool) const;
    // Shrinks a frame whose rows lie `pitch` bytes apart, no less than a row has, to the C-contiguous `out`. What lies
    // between rows may be read. `pool` may be null, and small frames don't use it; it doesn't change the bytes. The
    // caller sees to the environment (matcher/arithmetic.hpp).
    void make(const uint8_t* pixels, int64_t pitch, uint8_t* out, float* workspace, ThreadPool* pool) const;

 private:
    struct Taps;
    void lay_out(const std::vector<Taps>& columns, const std::vector<Taps>& rows);
    // Means of whole numbers of pixels, so many that float32 doesn't hold their sum. No camera's frame has them.
    void sum_whole(const uint8_t* pixels, int64_t pitch, uint8_t* out) const;

    const Kernels& kernels_;
    const PictureSize frame_, out_;
    int64_t whole_y_, whole_x_;  // pixels that each pixel is the sum of, if both are whole numbers; else 0
    std::vector<int32_t> at_;
    AlignedBuffer<float> weights_;
    std::vector<float> row_weights_;
    std::vector<int64_t> first_row_, row_count_;
    AreaTask task_{};  // points to them
};

}  // namespace spadeline
