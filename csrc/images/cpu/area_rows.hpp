// Shrinks rows of a frame, as area.hpp defines it. A register holds pixels of four lanes: a colour pixel's channels and
// a fourth lane that isn't written, or one column of four gray rows, whose bytes are interleaved first.
//
//     along x    a block of columns at a time: sum = sum + pixel * weight, pixel by pixel from 0 on
//     along y    sum = sum + row * weight, row by row from 0 on; a row that ends one row of the picture and begins the
//                next is part of both
//
// A product is rounded, then the sum (CMakeLists.txt forbids to contract them). A pixel is the same operations
// everywhere, so all instruction sets give the same bytes. A weight of 0 behind the last pixel changes no sum.
//
// The frame is read once, in windows of 16 bytes: five pixels of three bytes, or four of four. Windows reach beyond a
// row's end. So a row that lies too close to the frame's end is copied first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "images/area_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

template <class Op>
class AreaRows {
 public:
    // Floats of workspace that `make` needs.
    static int64_t floats(const AreaTask& task) {
        return (kAreaRows + 1) * stride(task) + round_up(stride(task) + line_bytes(task), 64) / 4;
    }

    // Makes rows [first, last) of the picture.
    static void make(const AreaTask& task, const AreaFrame& frame, int64_t first, int64_t last, float* workspace) {
        float* lines = workspace;                        // (kAreaRows, stride): the frame's rows, summed along x
        float* sums = lines + kAreaRows * stride(task);  // (stride): a row of the picture that isn't complete
        auto* bytes = reinterpret_cast<uint8_t*>(sums + stride(task));  // (stride): a row with pixels of four bytes
        uint8_t* copy = bytes + stride(task);                           // (line_bytes)
        if (task.halves) {
            for (int64_t y = first; y < last; ++y) halve(task, frame, y, copy);
            return;
        }
        for (int64_t i = 0; i < line_bytes(task); ++i) copy[i] = 0;
        const int64_t end = task.first_row[last - 1] + task.row_count[last - 1];
        int64_t y = first;
        for (int64_t row = task.first_row[first]; row < end; row += kAreaRows) {
            const int64_t behind = row + kAreaRows < end ? row + kAreaRows : end;
            if (task.channels == 1) {
                interleave(task, frame, row, behind - row, copy);
                sum_line<4, true>(task, copy, lines);
            } else {
                for (int64_t i = row; i < behind; ++i) {
                    const uint8_t* line = readable(task, frame, i, copy);
                    const auto sum = task.channels == 3 ? sum_line<3, false> : sum_line<4, false>;
                    sum(task, line, lines + (i - row) * stride(task));
                }
            }
            for (; y < last && task.first_row[y] < behind; ++y) {
                const int64_t begins = task.first_row[y], ends = begins + task.row_count[y];
                const int64_t from = begins > row ? begins : row, to = ends < behind ? ends : behind;
                const float* weights = task.row_weights + y * task.row_taps + from - begins;
                uint8_t* out = ends <= behind ? bytes : nullptr;
                add_lines(task, lines + (from - row) * stride(task), to - from, weights, begins >= row, sums, out);
                if (!out) break;  // the next rows of the frame go on with it
                write(task, bytes, frame.out + y * task.columns * (task.channels == 1 ? 1 : 3));
            }
        }
    }

 private:
    using Reg = typename Op::Reg;
    using Bytes = uint8_t __attribute__((vector_size(16)));
    static constexpr int kPixels = Op::lanes / 4;  // of a register
    static constexpr int kRegisters = 4;           // of a block: they hide the latency of a sum

    static int64_t stride(const AreaTask& task) { return task.channels == 1 ? task.slots : 4 * task.slots; }
    static int64_t line_bytes(const AreaTask& task) { return round_up(task.read, 16); }

    static Bytes load(const uint8_t* p) {
        Bytes bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        return bytes;
    }
    static void store(uint8_t* p, const Bytes& bytes) { __builtin_memcpy(p, &bytes, sizeof bytes); }

    // Row y of a picture of half the frame's sides. The means of all neighbours are made, of which every second is
    // kept: a compiler vectorises bytes that lie in a row.
    static void halve(const AreaTask& task, const AreaFrame& frame, int64_t y, uint8_t* __restrict means) {
        const int64_t channels = task.channels, kept = channels == 1 ? 1 : 3, columns = task.columns;
        const uint8_t* __restrict upper = frame.pixels + 2 * y * frame.pitch;
        const uint8_t* __restrict lower = upper + frame.pitch;
        const int64_t count = (2 * columns - 1) * channels;
        for (int64_t i = 0; i < count; ++i)
            means[i] = static_cast<uint8_t>((upper[i] + upper[i + channels] + lower[i] + lower[i + channels] + 2) >> 2);
        uint8_t* __restrict out = frame.out + y * columns * kept;
        if (channels == 1) {
            for (int64_t x = 0; x < columns; ++x) out[x] = means[2 * x];
            return;
        }
        // Four bytes are copied at once. The next pixel overwrites the fourth one.
        for (int64_t x = 0; x + 1 < columns; ++x) __builtin_memcpy(out + 3 * x, means + 2 * x * channels, 4);
        __builtin_memcpy(out + 3 * (columns - 1), means + 2 * (columns - 1) * channels, 3);
    }

    // The row itself, or its copy if windows would reach beyond the frame's end.
    static const uint8_t* readable(const AreaTask& task, const AreaFrame& frame, int64_t row, uint8_t* copy) {
        const uint8_t* pixels = frame.pixels + row * frame.pitch;
        if (frame.end - pixels >= task.read) return pixels;
        __builtin_memcpy(copy, pixels, static_cast<size_t>(task.channels * task.width));
        return copy;
    }

    // Four gray rows as one line of four bytes a column. Of fewer rows the last one stands for those that are missing.
    static void interleave(const AreaTask& task, const AreaFrame& frame, int64_t row, int64_t count, uint8_t* line) {
        const uint8_t* rows[kAreaRows];
        for (int64_t i = 0; i < kAreaRows; ++i)
            rows[i] = frame.pixels + (row + (i < count ? i : count - 1)) * frame.pitch;
        int64_t x = 0;
        for (; x + 16 <= task.width; x += 16) {
            const Bytes a = load(rows[0] + x), b = load(rows[1] + x), c = load(rows[2] + x), d = load(rows[3] + x);
            const Bytes pairs[4] = {low_of<1>(a, b), low_of<1>(c, d), high_of<1>(a, b), high_of<1>(c, d)};
            for (int i = 0; i < 2; ++i) {
                store(line + 4 * x + 32 * i, low_of<2>(pairs[2 * i], pairs[2 * i + 1]));
                store(line + 4 * x + 32 * i + 16, high_of<2>(pairs[2 * i], pairs[2 * i + 1]));
            }
        }
        for (; x < task.width; ++x)
            for (int64_t i = 0; i < kAreaRows; ++i) line[4 * x + i] = rows[i][x];
    }

    // The lower (higher) halves of a and b, in turns of kRun bytes.
    template <int kRun>
    static Bytes low_of(const Bytes& a, const Bytes& b) {
        if constexpr (kRun == 1)
            return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        return __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
    }
    template <int kRun>
    static Bytes high_of(const Bytes& a, const Bytes& b) {
        if constexpr (kRun == 1)
            return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        return __builtin_shufflevector(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
    }

    // Sums a line of kBytes a pixel along x: to one line of pixels of four lanes, or to the four lines of gray rows.
    template <int kBytes, bool kGray>
    static void sum_line(const AreaTask& task, const uint8_t* line, float* out) {
        constexpr int64_t kTaps = 16 / kBytes;
        for (int64_t slot = 0; slot < task.slots; slot += Op::lanes) {
            Reg sum[kRegisters];
            for (Reg& s : sum) s = Op::broadcast_value(0);
            int64_t k = 0;
            for (; k + kTaps <= task.taps; k += kTaps) add_pixels<kBytes, kTaps>(task, line, slot, k, sum);
            switch (task.taps - k) {
                case 1:
                    add_pixels<kBytes, 1>(task, line, slot, k, sum);
                    break;
                case 2:
                    add_pixels<kBytes, 2>(task, line, slot, k, sum);
                    break;
                case 3:
                    add_pixels<kBytes, 3>(task, line, slot, k, sum);
                    break;
                case 4:
                    add_pixels<kBytes, 4>(task, line, slot, k, sum);
                    break;
                default:
                    break;
            }
            if constexpr (kGray) {
                Op::turn4(sum);
                for (int i = 0; i < kRegisters; ++i) Op::store(out + i * task.slots + slot, sum[i]);
            } else {
                for (int i = 0; i < kRegisters; ++i) Op::store(out + 4 * slot + i * Op::lanes, sum[i]);
            }
        }
    }

    template <int kBytes, int kTaps>
    static void add_pixels(const AreaTask& task, const uint8_t* line, int64_t slot, int64_t k, Reg* sum) {
        const float* weights = task.weights + (slot * task.taps + k * Op::lanes) * kRegisters;
        for (int i = 0; i < kRegisters; ++i) {
            const auto windows = Op::windows(line + k * kBytes, task.at + slot + i * kPixels);
            add_from<kBytes, kTaps, 0>(windows, weights + i * kTaps * Op::lanes, sum[i]);
        }
    }

    template <int kBytes, int kTaps, int kTap>
    static void add_from(const typename Op::Windows& windows, const float* weights, Reg& sum) {
        if constexpr (kTap < kTaps) {
            const Reg pixels = Op::template pixels<kBytes, kTap>(windows);
            sum = Op::add(sum, Op::mul(pixels, Op::load(weights + kTap * Op::lanes)));
            add_from<kBytes, kTaps, kTap + 1>(windows, weights, sum);
        }
    }

    // Adds `count` lines to `sums`, which begin with 0 if it is the first time. Writes bytes instead of sums if `out`
    // isn't null.
    static void add_lines(const AreaTask& task, const float* lines, int64_t count, const float* weights, bool first,
                          float* sums, uint8_t* out) {
        switch (count) {
            case 1:
                return add<1>(task, lines, weights, first, sums, out);
            case 2:
                return add<2>(task, lines, weights, first, sums, out);
            case 3:
                return add<3>(task, lines, weights, first, sums, out);
            default:
                return add<4>(task, lines, weights, first, sums, out);
        }
    }

    template <int kCount>
    static void add(const AreaTask& task, const float* lines, const float* weights, bool first, float* sums,
                    uint8_t* out) {
        static_assert(kCount <= kAreaRows);
        Reg weight[kCount];
        for (int i = 0; i < kCount; ++i) weight[i] = Op::broadcast(weights + i);
        const Reg scale = Op::broadcast_value(task.scale);
        for (int64_t x = 0; x < stride(task); x += Op::lanes) {
            Reg sum = first ? Op::broadcast_value(0) : Op::load(sums + x);
            for (int i = 0; i < kCount; ++i)
                sum = Op::add(sum, Op::mul(Op::load(lines + i * stride(task) + x), weight[i]));
            if (out) {
                Op::store_pixels(out + x, Op::mul(sum, scale));
            } else {
                Op::store(sums + x, sum);
            }
        }
    }

    // A row of the picture from its bytes, without a colour pixel's fourth.
    static void write(const AreaTask& task, const uint8_t* bytes, uint8_t* out) {
        if (task.channels == 1) {
            __builtin_memcpy(out, bytes, static_cast<size_t>(task.columns));
            return;
        }
        int64_t x = 0;
        for (; x + 4 <= task.columns; x += 4) {
            const Bytes four = load(bytes + 4 * x);
            const Bytes packed =
                __builtin_shufflevector(four, four, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
            __builtin_memcpy(out + 3 * x, &packed, 12);
        }
        for (; x < task.columns; ++x)
            for (int64_t c = 0; c < 3; ++c) out[3 * x + c] = bytes[4 * x + c];
    }
};

}  // namespace spadeline
