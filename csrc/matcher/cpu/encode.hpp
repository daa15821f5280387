// Turns vectors into codes: centres them, maps them, rounds them to bytes, and bounds the error of that.
//
//     rotated      y = H S (x - mean)    S: signs of a fixed random sequence; H: Hadamard matrix / its norm, in blocks
//     projected    y = P (x - mean)      P: orthonormal rows; residual = norm of what they leave of x - mean
//
//     code = round(y / scale)            scale = largest |y| / 127, one per vector
//     error >= |(y, residual) - (scale * code, residual as stored)|, exact values on the left
//
// Neither map moves two vectors further apart, so that a distance of codes, less both errors, is a lower bound.
// The Hadamard matrix mixes channels that are a multiple of 16 apart, which needs additions of whole registers only,
// whatever their width. Mixing the channels in between as well made errors only 5 % smaller.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"
#include "matcher/cpu/tile.hpp"
#include "matcher/match_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

template <class Op>
class Encoder {
 public:
    static int64_t workspace_floats(const Codebook& book) { return kRows * (padded(book.channels) + columns(book)); }
    static int64_t projection_floats(const Codebook& book) { return columns(book) * book.channels; }

    static void pack_projection(const Codebook& book, const float* directions, float* panels) {
        pack_panels<Op>(directions, book.dims, book.channels, 1.0f, panels);
    }

    static void encode(const Codebook& book, const float* rows, int64_t count, const CodeRows& out, float* workspace) {
        float* centred = workspace;  // (kRows, channels)
        float* projected = workspace + kRows * padded(book.channels);
        for (int64_t first = 0; first < count; first += kRows) {
            const int64_t n = count - first < kRows ? count - first : kRows;
            for (int64_t i = 0; i < n; ++i) {
                const float* row = rows + (first + i) * book.channels;
                float* x = centred + i * book.channels;
                int64_t c = 0;
                for (; c + Op::lanes <= book.channels; c += Op::lanes)
                    Op::store(x + c, Op::sub(Op::load(row + c), Op::load(book.mean + c)));
                for (; c < book.channels; ++c) x[c] = row[c] - book.mean[c];
            }
            if (book.projection) project(book, centred, n, projected);
            for (int64_t i = 0; i < n; ++i) {
                const float* x = centred + i * book.channels;
                if (book.projection) {
                    encode_projected(book, x, projected + i * columns(book), first + i, out);
                } else {
                    encode_rotated(book, x, projected, first + i, out);
                }
            }
        }
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int kLanes = 16;     // floats of the widest register: dims are a multiple of it
    static constexpr int64_t kRows = 32;  // vectors projected at once, so that each panel is loaded for 32 of them

    static int64_t padded(int64_t floats) { return round_up(floats, kLanes); }
    static int64_t columns(const Codebook& book) { return round_up(book.dims, kWidth<Op>); }

    static void project(const Codebook& book, const float* centred, int64_t n, float* out) {
        for (int64_t q = 0; q < book.dims; q += kWidth<Op>)
            panel_tiles<Op>(
                book.projection + q * book.channels, book.dims - q < kWidth<Op> ? book.dims - q : kWidth<Op>, q,
                centred, book.channels, 0, n, [](int64_t, int64_t) { return Op::broadcast_value(0.0f); },
                [&](int64_t row, int64_t column, const typename Op::Reg* sums, int count) {
                    for (int g = 0; g < count; ++g) Op::store(out + (row + g) * columns(book) + column, sums[g]);
                });
    }

    static void encode_projected(const Codebook& book, const float* x, const float* y, int64_t at,
                                 const CodeRows& out) {
        const float whole = squared_norm(x, book.channels), part = squared_norm(y, book.dims);
        const float residual = __builtin_sqrtf(whole > part ? whole - part : 0);
        // The residual's error: its square is off by twice the projection's error and by both sums' roundings.
        const float square_error = (4 * book.projection_error + 2 * roundings(book.channels)) * whole;
        const float worst = __builtin_sqrtf(square_error);
        const float residual_error = residual > worst ? square_error / residual : worst;
        quantise(y, book.dims, 1.0f, whole, book.projection_error, residual, residual_error, at, out);
    }

    static void encode_rotated(const Codebook& book, const float* x, float* y, int64_t at, const CodeRows& out) {
        int64_t c = 0;
        for (; c + Op::lanes <= book.channels; c += Op::lanes)
            Op::store(y + c, Op::mul(Op::load(x + c), Op::load(book.signs + c)));
        for (; c < book.channels; ++c) y[c] = x[c] * book.signs[c];
        for (; c < book.dims; ++c) y[c] = 0;
        const int64_t mixed = book.dims & -book.dims;  // the largest power of two that divides it
        for (c = 0; c < book.dims; c += mixed) hadamard(y + c, mixed);
        const float factor = 1.0f / __builtin_sqrtf(static_cast<float>(mixed / kLanes));
        quantise(y, book.dims, factor, squared_norm(x, book.channels), 0.0f, 0.0f, 0.0f, at, out);
    }

    // The relative error of a sum of n squares: in any order, each square passes through fewer than n + 64 roundings.
    static float roundings(int64_t n) { return static_cast<float>(n + 64) * 0x1p-24f; }

    static float squared_norm(const float* x, int64_t n) {
        Reg sum = Op::broadcast_value(0.0f);
        float rest = 0;
        int64_t i = 0;
        for (; i + Op::lanes <= n; i += Op::lanes) sum = Op::fma(Op::load(x + i), Op::load(x + i), sum);
        for (; i < n; ++i) rest += x[i] * x[i];
        return Op::reduce(sum) + rest;
    }

    // Multiplies by the matrix in place, without its factor. n is a power of two, at least 16. Two steps at once take
    // half of the loads.
    static void hadamard(float* y, int64_t n) {
        int64_t h = kLanes;
        for (; 4 * h <= n; h *= 4)
            for (int64_t i = 0; i < n; i += 4 * h)
                for (float* p = y + i; p < y + i + h; p += Op::lanes) {
                    const Reg a = Op::load(p), b = Op::load(p + h), c = Op::load(p + 2 * h), d = Op::load(p + 3 * h);
                    const Reg ab = Op::add(a, b), cd = Op::add(c, d), a_b = Op::sub(a, b), c_d = Op::sub(c, d);
                    Op::store(p, Op::add(ab, cd));
                    Op::store(p + h, Op::add(a_b, c_d));
                    Op::store(p + 2 * h, Op::sub(ab, cd));
                    Op::store(p + 3 * h, Op::sub(a_b, c_d));
                }
        if (h < n)
            for (float* p = y; p < y + h; p += Op::lanes) {
                const Reg a = Op::load(p), b = Op::load(p + h);
                Op::store(p, Op::add(a, b));
                Op::store(p + h, Op::sub(a, b));
            }
    }

    // Rounds y * factor to a code. y * factor itself is off by up to `relative` of the vector's norm.
    static void quantise(const float* y, int64_t dims, float factor, float squared, float relative, float residual,
                         float residual_error, int64_t at, const CodeRows& out) {
        int8_t* codes = out.codes + at * dims;
        float* terms = out.terms + at * kTerms;
        const float norm = __builtin_sqrtf(squared), largest = largest_of(y, dims);
        if (!(norm >= kSmallestNorm &&
              norm <= kLargestNorm)) {  // no code: the error alone bounds where the vector lies
            for (int64_t i = 0; i < dims; ++i) codes[i] = 0;
            terms[0] = terms[1] = terms[3] = 0;
            terms[2] = norm < kSmallestNorm ? 2 * kSmallestNorm : __builtin_inff();
            out.sums[at] = 0;
            return;
        }
        const bool coded = largest * factor > norm * kSmallestPart;
        const float scale = coded ? largest / 127 : 0, inverse = coded ? 127 / largest : 0;
        Reg lost = Op::broadcast_value(0.0f), squares = lost, sums = lost;
        for (int64_t i = 0; i < dims; i += Op::lanes) {
            const Reg value = Op::load(y + i), code = Op::round(Op::mul(value, Op::broadcast_value(inverse)));
            const Reg rest = Op::fma(code, Op::broadcast_value(-scale), value);
            lost = Op::fma(rest, rest, lost);
            squares = Op::fma(code, code, squares);
            sums = Op::add(sums, code);  // exact: whole numbers, below 2^24
            Op::store_bytes(codes + i, code);
        }
        const float scaled = scale * factor;
        const float off = __builtin_sqrtf(Op::reduce(lost)) * factor + norm * relative;
        terms[0] = scaled;
        terms[1] = scaled * scaled * Op::reduce(squares) * (1 - 0x1p-19f - roundings(dims));
        terms[2] =
            __builtin_sqrtf(off * off + residual_error * residual_error) * (1 + roundings(dims)) + norm * 0x1p-17f;
        terms[3] = residual;
        out.sums[at] = static_cast<int32_t>(Op::reduce(sums));
    }

    static float largest_of(const float* y, int64_t n) {
        Reg most = Op::broadcast_value(0.0f);
        for (int64_t i = 0; i < n; i += Op::lanes) {
            const Reg value = Op::load(y + i);
            most = Op::max(most, Op::max(value, Op::sub(Op::broadcast_value(0.0f), value)));
        }
        return Op::reduce_max(most);
    }
};

}  // namespace spadeline
