// The sums that decide: squared differences in float64, one loop for every instruction set. And the filter's slack.
#pragma once

#include <cstdint>

#include "matcher/match_task.hpp"

namespace spadeline {

// Sum of (a - b)^2, or of a^2 where b is null. Differences of floats are exact in float64 but for their last bit, so
// the relative error is about n * 2^-53: two equal pairs of vectors always give the same value.
template <class Op>
inline double squared_distance(const float* a, const float* b, int64_t n) {
    constexpr int lanes = Op::lanes_f64, step = 4 * lanes;
    typename Op::Reg64 sum[4] = {Op::zero64(), Op::zero64(), Op::zero64(), Op::zero64()};
    int64_t i = 0;
    for (; i + step <= n; i += step)
        for (int k = 0; k < 4; ++k) {
            typename Op::Reg64 difference = Op::load64(a + i + k * lanes);
            if (b) difference = Op::sub64(difference, Op::load64(b + i + k * lanes));
            sum[k] = Op::fma64(difference, difference, sum[k]);
        }
    double total = Op::reduce64(Op::add64(Op::add64(sum[0], sum[1]), Op::add64(sum[2], sum[3])));
    for (; i < n; ++i) {
        const double difference = static_cast<double>(a[i]) - (b ? static_cast<double>(b[i]) : 0.0);
        total += difference * difference;
    }
    return total;
}

// Sum over channels of (upsampled a - upsampled b)^2, or of (upsampled a)^2 where b is null.
template <class Op>
inline double interpolated_sum(const Taps& a, const float* a_rows, const Taps* b, const float* b_rows,
                               int64_t channels) {
    constexpr int lanes = Op::lanes_f64;
    const float* row[8];
    double weight[8];
    const int taps = b ? 8 : 4;
    for (int t = 0; t < taps; ++t) {
        const Taps& side = t < 4 ? a : *b;
        row[t] = (t < 4 ? a_rows : b_rows) + side.position[t % 4] * channels;
        weight[t] = t < 4 ? side.weight[t] : -static_cast<double>(side.weight[t - 4]);
    }
    typename Op::Reg64 sum = Op::zero64();
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) {
        typename Op::Reg64 value = Op::zero64();
        for (int t = 0; t < taps; ++t) value = Op::fma64(Op::broadcast64(weight[t]), Op::load64(row[t] + c), value);
        sum = Op::fma64(value, value, sum);
    }
    double total = Op::reduce64(sum);
    for (; c < channels; ++c) {
        double value = 0;
        for (int t = 0; t < taps; ++t) value += weight[t] * row[t][c];
        total += value * value;
    }
    return total;
}

// What the filter needs of one side's vector: its squared norm, the magnitude that its slack is a part of, and a bound
// of the sum's products. The three are equal, unless products are interpolated after they are made.
struct Norms {
    double norm, magnitude, largest;
};

// Returns a squared norm as the filter adds it: lowered so far that the filter's sum never exceeds the true distance.
//
// The filter adds, in float32, `channels` products -2ab per pair and the two norms; with every intermediate rounding
// its error is below gamma * 2 * (|a|^2 + |b|^2), gamma = m u / (1 - m u), u = 2^-24, m the roundings a term can meet
// (csrc/README.md has the proof). So each side's norm gives up 2 * gamma of `magnitude`, and an absolute term
// for products that underflow, even where denormals are flushed. Where products are so large that float32 could
// overflow, the norm becomes minus infinity: everything passes the filter, and float64 decides.
template <class Op>
inline float filter_norm(const Norms& side, int64_t channels) {
    constexpr double unit = 0x1p-24, largest = 0x1p120, tiniest = 0x1p-124;
    // Ten for each of four levels (interpolation on both sides, the sum with other levels), fewer than 24 for the
    // norms.
    constexpr int64_t others = 64;
    if (!(side.largest <= largest)) return -__builtin_inff();
    const double roundings = static_cast<double>(channels + others);
    const double gamma = roundings * unit / (1 - roundings * unit);
    const double lowered = side.norm - 2 * gamma * side.magnitude - roundings * tiniest;
    float result = static_cast<float>(lowered);
    if (static_cast<double>(result) > lowered) result = __builtin_nextafterf(result, -__builtin_inff());
    return result;
}

// Returns the smallest float that isn't below a distance. The filter's lower bounds are compared with it.
template <class Op>
inline float threshold_of(double distance) {
    float result = static_cast<float>(distance);
    if (static_cast<double>(result) < distance) result = __builtin_nextafterf(result, __builtin_inff());
    return result < __FLT_MAX__ ? result : __FLT_MAX__;
}

// Keeps the kappa smallest by (distance, image, raster), nearest first: ties go to the smaller image, y, x. A pixel
// that is in the list already doesn't enter it again: a position may be searched more than once.
template <class Op>
inline void insert(Neighbour* best, int64_t kappa, const Neighbour& candidate) {
    const auto before = [](const Neighbour& a, const Neighbour& b) {
        if (a.distance != b.distance) return a.distance < b.distance;
        return a.image != b.image ? a.image < b.image : a.raster < b.raster;
    };
    if (!before(candidate, best[kappa - 1])) return;
    for (int64_t k = 0; k < kappa; ++k)
        if (best[k].image == candidate.image && best[k].raster == candidate.raster) return;
    int64_t i = kappa - 1;
    for (; i > 0 && before(candidate, best[i - 1]); --i) best[i] = best[i - 1];
    best[i] = candidate;
}

}  // namespace spadeline
