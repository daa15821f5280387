// The anomaly map of heatmap.hpp in two steps, over rows of the map that a thread takes:
//
//     rows       the map's rows, enlarged from two rows of the distances, divided, and smoothed along x
//     columns    smoothed along y, and divided
//
// Every pixel is the same sequence of operations, whatever the width of a register and wherever in one it lies: a mix
// of two values is fma(next, part, first * (1 - part)), and a smoothed value is a sum over the Gaussian's weights in
// their order, sum = fma(value, weight, sum), from 0 on. Where fma is rounded once, all instruction sets give the same
// bits. A weight of 0 beside the Gaussian changes no sum.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"
#include "matcher/map_task.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

template <class Op>
class Smooth {
 public:
    // Floats of the lines that `rows` works on: two enlarged rows of the distances, the map's row with what is mirrored
    // at its ends, and a row of the distances with what `pick` reads behind it.
    static int64_t floats(const MapTask& task) { return 2 * task.columns + line_floats(task) + source_floats(task); }

    // Writes rows [first, last) of `out`, (map_height, stride).
    static void rows(const MapTask& task, const float* values, int64_t first, int64_t last, float* out,
                     float* workspace) {
        float* lines = workspace;  // (2, columns): row i of the distances is line i % 2
        float* line = lines + 2 * task.columns;
        float* source = line + line_floats(task);
        for (int64_t i = 0; i < line_floats(task); ++i) line[i] = 0;
        for (int64_t i = 0; i < source_floats(task); ++i) source[i] = 0;
        int64_t held[2] = {-1, -1};
        for (int64_t y = first; y < last; ++y) {
            const Place place = task.place_y[y];
            const int64_t next = place.part > 0 ? place.first + 1 : place.first;
            for (int64_t i = place.first; i <= next; ++i) {
                if (held[i % 2] == i) continue;
                for (int64_t x = 0; x < task.width; ++x) source[x] = values[i * task.width + x];
                enlarge_along_x(task, source, lines + i % 2 * task.columns);
                held[i % 2] = i;
            }
            const float* divisor = task.enlarged_divisor ? task.enlarged_divisor + y * task.columns : nullptr;
            enlarge_along_y(task, lines + place.first % 2 * task.columns, lines + next % 2 * task.columns, place.part,
                            divisor, line + task.radius);
            mirror(task, line + task.radius);
            smooth_line(task, line, out + y * task.stride);
        }
    }

    // Writes rows [first, last) of the map from `rows`, of which it reads those within the radius, mirrored.
    static void columns(const MapTask& task, const float* rows, int64_t first, int64_t last, float* map) {
        const int64_t registers = ceil_div(task.map_width, Op::lanes);
        int64_t r = 0;
        for (; r + kColumnRegisters <= registers; r += kColumnRegisters)
            smooth_strip<kColumnRegisters>(task, rows, first, last, r * Op::lanes, map);
        for (; r < registers; ++r) smooth_strip<1>(task, rows, first, last, r * Op::lanes, map);
        if (!task.divisor) return;
        for (int64_t i = first * task.map_width; i < last * task.map_width; ++i) map[i] = map[i] / task.divisor[i];
    }

 private:
    using Reg = typename Op::Reg;
    static constexpr int kRows = Op::rows < kMapRows ? Op::rows : kMapRows;  // of sums, by kColumnRegisters
    static constexpr int kColumnRegisters = Op::vectors;
    static constexpr int kLineRegisters = 8;  // sums along a line: they hide a multiply-add's latency

    static int64_t line_floats(const MapTask& task) { return round_up(task.columns + 2 * task.radius, kPanel); }
    static int64_t source_floats(const MapTask& task) { return round_up(task.width + 1, kPanel) + kPanel; }

    static Reg mix(Reg first, Reg next, Reg part, Reg rest) { return Op::fma(next, part, Op::mul(first, rest)); }

    // The first distances of a register's pixels lie less than a register apart, since a map isn't smaller than the
    // distances. So both distances of all its pixels are picked from one register each.
    static void enlarge_along_x(const MapTask& task, const float* source, float* out) {
        for (int64_t x = 0; x < task.columns; x += Op::lanes) {
            const int32_t start = task.first_x[x];
            const auto index = Op::sub_int(Op::load_int(task.first_x + x), Op::broadcast_int(start));
            Op::store(out + x, mix(Op::pick(source + start, index), Op::pick(source + start + 1, index),
                                   Op::load(task.part_x + x), Op::load(task.rest_x + x)));
        }
    }

    static void enlarge_along_y(const MapTask& task, const float* upper, const float* lower, float place_part,
                                const float* divisor, float* out) {
        const Reg part = Op::broadcast_value(place_part), rest = Op::broadcast_value(1 - place_part);
        for (int64_t x = 0; x < task.columns; x += Op::lanes)
            Op::store(out + x, mix(Op::load(upper + x), Op::load(lower + x), part, rest));
        if (!divisor) return;
        for (int64_t x = 0; x < task.columns; ++x) out[x] = out[x] / divisor[x];
    }

    // Mirrors a line at both ends, the end pixels repeated. Each step reads what the steps before it wrote, where the
    // radius is larger than the line.
    static void mirror(const MapTask& task, float* line) {
        float* end = line + task.map_width;
        for (int64_t i = 0; i < task.radius; ++i) {
            line[-1 - i] = line[i];
            end[i] = end[-1 - i];
        }
    }

    static void smooth_line(const MapTask& task, const float* line, float* out) {
        const int64_t registers = ceil_div(task.map_width, Op::lanes);
        int64_t r = 0;
        for (; r + kLineRegisters <= registers; r += kLineRegisters)
            smooth_registers<kLineRegisters>(task, line + r * Op::lanes, out + r * Op::lanes);
        for (; r + 2 <= registers; r += 2) smooth_registers<2>(task, line + r * Op::lanes, out + r * Op::lanes);
        if (r < registers) smooth_registers<1>(task, line + r * Op::lanes, out + r * Op::lanes);
    }

    template <int kRegisters>
    static void smooth_registers(const MapTask& task, const float* line, float* out) {
        Reg sum[kRegisters];
        for (int v = 0; v < kRegisters; ++v) sum[v] = Op::broadcast_value(0);
        for (int64_t k = 0; k <= 2 * task.radius; ++k) {
            const Reg weight = Op::broadcast(task.weights + k);
            for (int v = 0; v < kRegisters; ++v) sum[v] = Op::fma(Op::load(line + k + v * Op::lanes), weight, sum[v]);
        }
        for (int v = 0; v < kRegisters; ++v) Op::store(out + v * Op::lanes, sum[v]);
    }

    // Columns [x, x + kRegisters * lanes) of the map, without those beyond it.
    template <int kRegisters>
    static void smooth_strip(const MapTask& task, const float* rows, int64_t first, int64_t last, int64_t x,
                             float* map) {
        constexpr int64_t width = kRegisters * Op::lanes;
        const int64_t columns = task.map_width - x < width ? task.map_width - x : width;
        for (int64_t y = first; y < last; y += kRows) {
            Reg sum[kRows][kRegisters];
            for (int j = 0; j < kRows; ++j)
                for (int v = 0; v < kRegisters; ++v) sum[j][v] = Op::broadcast_value(0);
            // A row is read once for all the sums that it is part of. For some of them it lies beside the Gaussian.
            for (int64_t i = 0; i < kRows + 2 * task.radius; ++i) {
                const float* row = rows + task.rows_y[y + i] * task.stride + x;
                Reg value[kRegisters];
                for (int v = 0; v < kRegisters; ++v) value[v] = Op::load(row + v * Op::lanes);
                for (int j = 0; j < kRows; ++j) {
                    const Reg weight = Op::broadcast(task.weights + i - j);
                    for (int v = 0; v < kRegisters; ++v) sum[j][v] = Op::fma(value[v], weight, sum[j][v]);
                }
            }
            for (int j = 0; j < kRows && y + j < last; ++j) {
                float* out = map + (y + j) * task.map_width + x;
                if (columns == width) {
                    for (int v = 0; v < kRegisters; ++v) Op::store(out + v * Op::lanes, sum[j][v]);
                } else {
                    float whole[width];
                    for (int v = 0; v < kRegisters; ++v) Op::store(whole + v * Op::lanes, sum[j][v]);
                    for (int64_t c = 0; c < columns; ++c) out[c] = whole[c];
                }
            }
        }
    }
};

}  // namespace spadeline
