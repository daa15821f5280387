// Frames made the extractor's input, and their facts: that instruction sets, threads, pitches and earlier frames change
// no byte, and what is refused. tests/images compares bytes and facts with OpenCV's.
//
//     test_frames [CASES [SEED]]      test_frames 1 SEED: a case that failed
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "images/linear.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"
#include "runtime/frame.hpp"
#include "runtime/frame_facts.hpp"
#include "runtime/frame_shape.hpp"
#include "runtime/masks.hpp"
#include "support/expect.hpp"
#include "support/features.hpp"

using namespace spadeline;

namespace {

constexpr Color kColors[] = {Color::gray, Color::rgb, Color::bgr, Color::rgba, Color::bgra};

struct Prepared {
    std::vector<uint8_t> rgb;
    Placement placement;
    bool operator==(const Prepared&) const = default;
};

Prepared prepared(Preparation& preparation, const FrameView& frame) {
    Prepared result{std::vector<uint8_t>(preparation.input().height * preparation.input().width * 3, 77), {}};
    result.placement = preparation.prepare(frame, result.rgb.data());
    return result;
}

// Pixels, rows `pitch` bytes apart; they end with the last row's last pixel, so that a sanitizer sees what reads
// beyond.
std::vector<uint8_t> drawn(Random& random, int64_t height, int64_t row, int64_t pitch) {
    std::vector<uint8_t> pixels((height - 1) * pitch + row);
    for (uint8_t& byte : pixels) byte = static_cast<uint8_t>(random.below(256));
    return pixels;
}

// The colours of a frame's pixel at (y, x).
uint8_t channel(const FrameView& frame, int64_t y, int64_t x, int64_t c) {
    const uint8_t* pixel = frame.pixels + y * frame.pitch + x * channels_of(frame.color);
    if (frame.color == Color::gray) return *pixel;
    return pixel[frame.color == Color::bgr || frame.color == Color::bgra ? 2 - c : c];
}

void check_case(uint64_t seed) {
    Random random(seed);
    const PictureSize input{random.upto(60), random.upto(60)};
    const Framing framing = random.one_in(2) ? Framing::whole : Framing::paper;
    const Color color = kColors[random.below(5)];
    const int64_t height = kLeastSide + random.below(random.one_in(3) ? 300 : 60), channels = channels_of(color);
    const int64_t width = std::max<int64_t>(kLeastSide, height / 2 + random.below(height + 1));
    const int64_t pitch = width * channels + (random.one_in(2) ? 0 : random.below(40));
    const auto pixels = drawn(random, height, width * channels, pitch);
    const FrameView frame{pixels.data(), height, width, pitch, color};
    const std::string name = "seed " + std::to_string(seed) + ": ";
    try {
        Preparation plain(*available_kernels().back(), framing, input, 1);
        const Prepared expected = prepared(plain, frame);
        // Interleaved with a frame of another size, which must leave nothing behind.
        const std::vector<uint8_t> other(30 * 40, 9);
        for (const Kernels* kernels : available_kernels()) {
            Preparation preparation(*kernels, framing, input, 3);
            for (int call = 0; call < 2; ++call) {
                expect(prepared(preparation, frame) == expected, name + kernels->name + " changes the input");
                if (framing == Framing::whole) prepared(preparation, {other.data(), 30, 40, 40, Color::gray});
            }
        }
        if (framing == Framing::whole && input == frame.size()) {
            for (int64_t i = 0; i < height * width * 3; ++i)
                expect(expected.rgb[i] == channel(frame, i / 3 / width, i / 3 % width, i % 3), name + "a byte moved");
        }
    } catch (const std::invalid_argument& error) {  // long and thin beside its input
        expect(framing == Framing::paper, name + error.what());
    }
}

// Each colour brings the same picture; and an input of the frame's size is the frame.
void check_colours() {
    Random random(3);
    const int64_t height = 33, width = 21;
    const auto rgba = drawn(random, height, width * 4, width * 4);
    const FrameView whole{rgba.data(), height, width, width * 4, Color::rgba};
    for (const PictureSize input : {PictureSize{33, 21}, {20, 20}, {50, 19}, {40, 40}}) {
        Preparation preparation(*available_kernels().front(), Framing::whole, input, 1);
        const Prepared expected = prepared(preparation, whole);
        for (const Color color : {Color::rgb, Color::bgr, Color::bgra}) {
            const int64_t channels = channels_of(color);
            std::vector<uint8_t> pixels;
            for (int64_t i = 0; i < height * width; ++i)
                for (int64_t c = 0; c < channels; ++c)
                    pixels.push_back(c == 3 ? 5 : rgba[4 * i + (color == Color::rgb ? c : 2 - c)]);
            expect(prepared(preparation, {pixels.data(), height, width, width * channels, color}) == expected,
                   "colour " + std::to_string(static_cast<int>(color)) + " changes the input");
        }
        if (input == whole.size())
            for (int64_t i = 0; i < height * width * 3; ++i)
                expect(expected.rgb[i] == rgba[i / 3 * 4 + i % 3],
                       "byte " + std::to_string(i) + " of a frame as it is");
    }
}

void check_refusals() {
    const std::vector<uint8_t> pixels(100 * 100);
    uint8_t rgb[32 * 32 * 3];
    Preparation whole(*available_kernels().front(), Framing::whole, {32, 32}, 1);
    Preparation paper(*available_kernels().front(), Framing::paper, {32, 32}, 1);
    const auto refused = [&](const std::string& text, Preparation& preparation, const FrameView& frame) {
        expect_refused<std::invalid_argument>(text, [&] { preparation.prepare(frame, rgb); });
        // A frame that is refused leaves the preparation as good as it was.
        preparation.prepare({pixels.data(), 10, 10, 10, Color::gray}, rgb);
    };
    constexpr int64_t kHuge = int64_t{1} << 31;
    refused("frame: expected pixels, got null", whole, {nullptr, 10, 10, 30, Color::rgb});
    refused("frame: expected sides of at least 8 pixels, got 7 x 10", whole, {pixels.data(), 7, 10, 30, Color::rgb});
    refused("frame: expected sides of at least 8 pixels, got 8 x -1", whole, {pixels.data(), 8, -1, 30, Color::rgb});
    refused("frame: expected sides of at most 1048576 pixels, got 8 x 2147483648", whole,
            {pixels.data(), 8, kHuge, kHuge, Color::gray});
    refused("pitch: expected at least the 30 bytes of a row, and at most 2^40, got 29", whole,
            {pixels.data(), 10, 10, 29, Color::rgb});
    refused("pitch: expected at least the 30 bytes of a row, and at most 2^40, got -30", whole,
            {pixels.data(), 10, 10, -30, Color::rgb});
    refused("pitch: expected at least the 30 bytes of a row, and at most 2^40, got 1099511627777", whole,
            {pixels.data(), 10, 10, kMostPitch + 1, Color::rgb});
    refused(
        "frame: expected an aspect ratio within 16 times that of the input's 32 x 32 for framing 'paper', got 8 x 1000",
        paper, {pixels.data(), 8, 1000, 1000, Color::gray});
    expect_refused<std::invalid_argument>("threads: expected at least 1, got 0", [&] {
        Preparation(*available_kernels().front(), Framing::whole, {32, 32}, 0);
    });
}

// A kind of image whose facts are known, and that instruction sets and masks agree.
void check_facts(uint64_t seed) {
    Random random(seed);
    const PictureSize size{random.upto(40), random.upto(random.one_in(4) ? 2100 : 40)};
    const int64_t pixels = size.height * size.width, range = random.upto(256), level = random.below(257 - range);
    std::vector<uint8_t> rgb, ignore(pixels);
    for (int64_t i = 0; i < 3 * pixels; ++i) rgb.push_back(static_cast<uint8_t>(level + random.below(range)));
    const std::string name = "facts, seed " + std::to_string(seed) + ": ";
    FrameFacts expected{};
    for (const Kernels* kernels : available_kernels()) {
        const FrameFacts facts = FactsMeter(*kernels, size, nullptr).measure(rgb.data());
        if (kernels == available_kernels().front()) expected = facts;
        expect(facts == expected, name + kernels->name + " changes them");
        expect(FactsMeter(*kernels, size, ignore.data()).measure(rgb.data()) == facts, name + "an empty mask");
    }
    if (range == 1) expect(expected == FrameFacts{static_cast<double>(level), 0, 0}, name + "a constant image");
}

// An input pixel's part of the frame is rounded outwards; a distance is ignored if all below it is.
void check_masks() {
    const std::vector<uint8_t> mask{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};  // (3, 4)
    expect(any_under(mask.data(), {3, 4}, {3, 4}, {1, 1, 0, 0}) == mask, "a mask of the frame's size");
    expect(any_under(mask.data(), {3, 4}, {2, 2}, {1.5, 2, 0, 0}) == std::vector<uint8_t>{0, 1, 0, 0}, "a smaller one");
    expect(any_under(mask.data(), {3, 4}, {1, 1}, {1, 1, -5, 9}) == std::vector<uint8_t>{0}, "beyond the frame");
    const std::vector<uint8_t> ignore{1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1};
    expect(ignored_distances(ignore.data(), {3, 4}, {3, 2}) == std::vector<uint8_t>{1, 0, 1, 0, 1, 1}, "distances");
}

void check_shapes() {
    const FrameShapes shapes({{256, 256}, {512, 512}, {100, 200}}, PictureSize{224, 300});
    for (const PictureSize size : {PictureSize{64, 64}, {31, 62}, {224, 300}})
        expect(!shapes.complaint(size), std::to_string(size.height) + " x " + std::to_string(size.width));
    expect(shapes.complaint({256, 192})
               .value_or("")
               .starts_with(
                   "frame: expected the proportions of 256 x 256, as in fit, got 256 x 192: was the camera's region"),
           "the complaint of other proportions");
    expect(!FrameShapes({}, std::nullopt).complaint({1, 999}), "without known sizes");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 150);
    const StandardArithmetic arithmetic;
    if (!random_alone) {
        check_colours();
        check_refusals();
        check_shapes();
        check_masks();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) {
        check_case(i);
        check_facts(i);
    }
    return report();
}
