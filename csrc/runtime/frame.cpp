#include "runtime/frame.hpp"

#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "matcher/arithmetic.hpp"

namespace spadeline {
namespace {

int checked(int threads) {
    if (threads < 1) throw std::invalid_argument("threads: expected at least 1, got " + std::to_string(threads));
    return threads;
}

void check(const FrameView& frame) {
    if (!frame.pixels) throw std::invalid_argument("frame: expected pixels, got null");
    if (frame.height < kLeastSide || frame.width < kLeastSide)
        throw std::invalid_argument("frame: expected sides of at least " + std::to_string(kLeastSide) +
                                    " pixels, got " + std::to_string(frame.height) + " x " +
                                    std::to_string(frame.width));
    if (frame.height > kMostSide || frame.width > kMostSide)
        throw std::invalid_argument("frame: expected sides of at most " + std::to_string(kMostSide) + " pixels, got " +
                                    std::to_string(frame.height) + " x " + std::to_string(frame.width));
    const int64_t row = frame.width * channels_of(frame.color);
    if (frame.pitch < row || frame.pitch > kMostPitch)
        throw std::invalid_argument("pitch: expected at least the " + std::to_string(row) +
                                    " bytes of a row, and at most 2^40, got " + std::to_string(frame.pitch));
}

// Exchanges each pixel's first and third byte. 16 pixels at a time are three masked copies of the row, two bytes apart,
// which a compiler turns into vectors.
void swap_ends(const uint8_t* __restrict from, int64_t pixels, uint8_t* __restrict rgb) {
    constexpr int kBlock = 48;
    static constexpr auto kMasks = [] {
        std::array<std::array<uint8_t, kBlock>, 3> masks{};
        for (int i = 0; i < kBlock; ++i) masks[i % 3][i] = 0xff;
        return masks;
    }();
    const auto swap = [&](int64_t i) {
        rgb[i] = from[i + 2];
        rgb[i + 1] = from[i + 1];
        rgb[i + 2] = from[i];
    };
    swap(0);  // a block reads two bytes on either side
    int64_t i = 3;
    for (; i + kBlock + 2 <= 3 * pixels; i += kBlock)
        for (int k = 0; k < kBlock; ++k)
            rgb[i + k] = static_cast<uint8_t>((from[i + k + 2] & kMasks[0][k]) | (from[i + k] & kMasks[1][k]) |
                                              (from[i + k - 2] & kMasks[2][k]));
    for (; i < 3 * pixels; i += 3) swap(i);
}

// Brings a row to RGB. Sources of four channels have lost their alpha when they were shrunk.
void to_rgb(Color color, const uint8_t* from, int64_t pixels, uint8_t* rgb) {
    if (color == Color::gray) {
        // Four bytes are stored at once; the next pixel overwrites the fourth one.
        for (int64_t i = 0; i + 1 < pixels; ++i) {
            const uint32_t gray = from[i] * 0x10101u;
            std::memcpy(rgb + 3 * i, &gray, 4);
        }
        std::memset(rgb + 3 * (pixels - 1), from[pixels - 1], 3);
    } else if (color == Color::bgr || color == Color::bgra) {
        swap_ends(from, pixels, rgb);
    } else if (from != rgb) {
        std::memcpy(rgb, from, 3 * pixels);
    }
}

}  // namespace

Preparation::Preparation(const Kernels& kernels, Framing framing, PictureSize input, int threads)
    : kernels_(kernels), framing_(framing), input_(input), pool_(checked(threads)) {}

Placement Preparation::prepare(const FrameView& frame, uint8_t* rgb) {
    check(frame);
    const StandardArithmetic arithmetic;
    const int64_t channels = channels_of(frame.color), kept = channels == 1 ? 1 : 3;
    if (!shrink_ || shrink_->frame() != frame.size() || shrink_->channels() != channels) lay_out(frame);
    ThreadPool* pool = pool_.size() > 1 ? &pool_ : nullptr;
    const bool in_place = plan_.resized == input_ && (frame.color == Color::rgb || frame.color == Color::rgba);
    uint8_t* picture = in_place && !grow_ ? rgb : shrunk_.data();
    shrink_->make(frame.pixels, frame.pitch, picture, workspace_.reserve(shrink_->floats(pool)), pool);
    if (grow_) {
        uint8_t* grown = in_place ? rgb : grown_.data();
        grow_->make(picture, grown, lines_.data());
        picture = grown;
    }
    const int64_t row = plan_.resized.width * kept;
    for (int64_t y = 0; y < input_.height; ++y)
        to_rgb(frame.color, picture + (plan_.top + y) * row + plan_.left * kept, input_.width,
               rgb + 3 * y * input_.width);
    return plan_.placement;
}

void Preparation::lay_out(const FrameView& frame) {
    const FramePlan plan = plan_frame(framing_, frame.size(), input_);
    const int64_t channels = channels_of(frame.color), kept = channels == 1 ? 1 : 3;
    const PictureSize smaller{std::min(frame.height, plan.resized.height), std::min(frame.width, plan.resized.width)};
    shrink_.reset();  // laid out anew at the next call if something fails below
    grow_.reset();
    shrunk_.resize(smaller.height * smaller.width * kept);
    if (smaller != plan.resized) {
        grow_ = std::make_unique<LinearResize>(smaller, plan.resized, kept);
        grown_.resize(plan.resized.height * plan.resized.width * kept);
        lines_.resize(grow_->words());
    }
    plan_ = plan;
    shrink_ = std::make_unique<AreaResize>(kernels_, frame.size(), smaller, channels);
}

}  // namespace spadeline
