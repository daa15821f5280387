// An image's gray levels, as OpenCV computes them for bytes, and the sums that runtime/frame_facts.hpp needs of them.
//
//     gray = (9798 red + 19235 green + 3735 blue + 2^14) >> 15
//
// Everything is a whole number that float32 or int32 holds, so all instruction sets give the same.
#pragma once

#include <cstdint>

#include "images/gray_task.hpp"

namespace spadeline {

template <class Op>
class Gray {
 public:
    // Turns RGB pixels into gray levels.
    static void levels(const uint8_t* rgb, int64_t pixels, uint8_t* out) {
        // Lane 4 p + j of a channel comes from part p of register j: see Op::turn4.
        int32_t at[4][kParts];
        for (int32_t j = 0; j < 4; ++j)
            for (int32_t p = 0; p < kParts; ++p) at[j][p] = 3 * (4 * p + j);
        const Reg red = Op::broadcast_value(kRed), green = Op::broadcast_value(kGreen),
                  blue = Op::broadcast_value(kBlue);
        // A sum is below 2^23, so a half more is exact. It makes halves go up, where the nearest byte is the even one.
        const Reg half = Op::broadcast_value(0.5f), scale = Op::broadcast_value(1.0f / (1 << kShift));
        int64_t i = 0;
        for (; 3 * (i + Op::lanes - 1) + kWindow <= 3 * pixels; i += Op::lanes) {
            Reg channels[4];
            for (int j = 0; j < 4; ++j) channels[j] = Op::template pixels<3, 0>(Op::windows(rgb + 3 * i, at[j]));
            Op::turn4(channels);
            const Reg sum = Op::fma(channels[0], red, Op::fma(channels[1], green, Op::fma(channels[2], blue, half)));
            Op::store_pixels(out + i, Op::mul(sum, scale));
        }
        for (; i < pixels; ++i)
            out[i] = static_cast<uint8_t>(
                (rgb[3 * i] * kRed + rgb[3 * i + 1] * kGreen + rgb[3 * i + 2] * kBlue + (1 << (kShift - 1))) >> kShift);
    }

    static GraySums sums(const GrayImage& image) {
        return image.counted ? sums_of<true>(image) : sums_of<false>(image);
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int kParts = Op::lanes / 4;
    static constexpr int64_t kWindow = 16;  // bytes that a window reads
    static constexpr int32_t kRed = 9798, kGreen = 19235, kBlue = 3735, kShift = 15;
    static constexpr int64_t kPiece = 1024;  // pixels whose squares are summed in 32 bits: each is at most 1020²

    template <bool kMasked>
    static GraySums sums_of(const GrayImage& image) {
        const int64_t height = image.height, width = image.width;
        GraySums sums{};
        for (int64_t y = 0; y < height; ++y) {
            const uint8_t* line = image.levels + y * width;
            const uint8_t* above = image.levels + mirrored(y - 1, height) * width;
            const uint8_t* below = image.levels + mirrored(y + 1, height) * width;
            const uint8_t* counted = kMasked ? image.counted + y * width : nullptr;
            const uint8_t* inner = kMasked ? image.inner + y * width : nullptr;
            for (int64_t x = 0; x < width; x += kPiece) {
                const int64_t end = x + kPiece < width ? x + kPiece : width;
                add_levels<kMasked>(line, counted, x, end, sums);
                if (y > 0) add_steps<kMasked>(line, above, inner, x, end, sums);
                const int64_t first = x > 0 ? x : 1, last = end < width ? end : width - 1;
                add_steps<kMasked>(line, line - 1, inner, first, end, sums);
                add_curves<kMasked>(line, above, below, inner, first, last, sums);
            }
            add_end<kMasked>(line, above, below, inner, 0, width, sums);
            if (width > 1) add_end<kMasked>(line, above, below, inner, width - 1, width, sums);
        }
        return sums;
    }

    static int64_t mirrored(int64_t i, int64_t length) {
        if (length == 1) return 0;
        return i < 0 ? 1 : i < length ? i : length - 2;
    }

    template <bool kMasked>
    static void add_levels(const uint8_t* line, const uint8_t* counted, int64_t first, int64_t end, GraySums& sums) {
        int32_t levels = 0, squares = 0;
        for (int64_t x = first; x < end; ++x) {
            const auto level = static_cast<int16_t>(kMasked ? line[x] * counted[x] : line[x]);
            levels += level;
            squares += level * level;
        }
        sums.levels += levels;
        sums.squares += squares;
    }

    template <bool kMasked>
    static void add_steps(const uint8_t* line, const uint8_t* next, const uint8_t* inner, int64_t first, int64_t end,
                          GraySums& sums) {
        int32_t steps = 0;
        for (int64_t x = first; x < end; ++x) {
            const auto step = static_cast<int16_t>((line[x] - next[x]) * (kMasked ? inner[x] : 1));
            steps += step * step;
        }
        sums.steps += steps;
    }

    template <bool kMasked>
    static void add_curves(const uint8_t* line, const uint8_t* above, const uint8_t* below, const uint8_t* inner,
                           int64_t first, int64_t end, GraySums& sums) {
        int32_t curves = 0;
        for (int64_t x = first; x < end; ++x) {
            const int sum = above[x] + below[x] + line[x - 1] + line[x + 1] - 4 * line[x];
            const auto curve = static_cast<int16_t>(sum * (kMasked ? inner[x] : 1));
            curves += curve * curve;
        }
        sums.curves += curves;
    }

    // The Laplacian at a line's end, beyond which it is mirrored.
    template <bool kMasked>
    static void add_end(const uint8_t* line, const uint8_t* above, const uint8_t* below, const uint8_t* inner,
                        int64_t x, int64_t width, GraySums& sums) {
        if (kMasked && !inner[x]) return;
        const int beside = line[mirrored(x - 1, width)] + line[mirrored(x + 1, width)];
        const int curve = above[x] + below[x] + beside - 4 * line[x];
        sums.curves += curve * curve;
    }
};

}  // namespace spadeline
