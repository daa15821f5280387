// Makes a camera's frame the extractor's input: resized, antialiased, RGB. Sides that shrink are averaged
// (images/area.hpp), those that grow are interpolated (images/linear.hpp). Files aren't read and nothing is normalised
// here. Python prepares its frames with the same class.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "images/area.hpp"
#include "images/linear.hpp"
#include "matcher/aligned.hpp"
#include "matcher/match_task.hpp"
#include "matcher/thread_pool.hpp"
#include "runtime/placement.hpp"

namespace spadeline {

inline constexpr int64_t kLeastSide = 8;          // of a frame, in pixels
inline constexpr int64_t kMostPitch = 1LL << 40;  // bytes, so that no offset in a frame overflows

// What a frame's channels mean. Alpha is left out.
enum class Color { gray, rgb, bgr, rgba, bgra };

constexpr int64_t channels_of(Color color) {
    return color == Color::gray ? 1 : color == Color::rgb || color == Color::bgr ? 3 : 4;
}

// A frame in the caller's memory: each row without gaps, rows `pitch` bytes apart. What lies between rows may be read,
// what lies behind the last row's last pixel isn't.
struct FrameView {
    const uint8_t* pixels;
    int64_t height, width;
    int64_t pitch;  // bytes, no less than a row has
    Color color;

    PictureSize size() const { return {height, width}; }
};

// Prepares frames for one input. One caller at a time. Frames of the size of the last one are prepared without an
// allocation: what a size needs is laid out once.
class Preparation {
 public:
    // `threads` of the team that shrinks a large frame; 1: the caller's thread. They don't change a byte.
    Preparation(const Kernels& kernels, Framing framing, PictureSize input, int threads);

    PictureSize input() const { return input_; }
    int threads() const { return pool_.size(); }

    // Writes the (H, W, 3) RGB input and returns where it lies in the frame. Throws std::invalid_argument: a frame that
    // is null, smaller than kLeastSide or larger than images/area.hpp takes, whose pitch is no pitch, or that is too
    // long and thin for the paper's framing. Throws std::runtime_error in a fork of the process that made a team.
    Placement prepare(const FrameView& frame, uint8_t* rgb);

 private:
    void lay_out(const FrameView& frame);

    const Kernels& kernels_;
    const Framing framing_;
    const PictureSize input_;
    ThreadPool pool_;
    FramePlan plan_{};
    std::unique_ptr<const AreaResize> shrink_;  // null until the first frame
    std::unique_ptr<const LinearResize> grow_;  // null if no side grows
    AlignedBuffer<float> workspace_;
    std::vector<uint8_t> shrunk_, grown_;
    std::vector<int16_t> lines_;
};

}  // namespace spadeline
