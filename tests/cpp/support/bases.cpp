#include "support/bases.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spadeline {

std::vector<double> orthonormal_rows(Random& random, int64_t count, int64_t channels, std::vector<double> given) {
    std::vector<double> rows;
    for (int64_t next = 0; static_cast<int64_t>(rows.size()) < count * channels; ++next) {
        std::vector<double> row(channels);
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t at = next * channels + c;
            row[c] = at < static_cast<int64_t>(given.size()) ? given[at] : random.normal();
        }
        double before = 0, after = 0;
        for (const double value : row) before += value * value;
        for (int twice = 0; twice < 2; ++twice)  // once more, for what the first time left by rounding
            for (size_t r = 0; r < rows.size(); r += channels) {
                double product = 0;
                for (int64_t c = 0; c < channels; ++c) product += row[c] * rows[r + c];
                for (int64_t c = 0; c < channels; ++c) row[c] -= product * rows[r + c];
            }
        for (const double value : row) after += value * value;
        if (!(after > 1e-6 * before)) continue;  // in the others' span
        for (const double value : row) rows.push_back(value / std::sqrt(after));
    }
    return rows;
}

std::vector<float> random_basis(Random& random, const std::vector<float>& vectors, int64_t channels,
                                int64_t directions) {
    const auto count = static_cast<int64_t>(vectors.size()) / channels;
    std::vector<double> mean(channels);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t c = 0; c < channels; ++c) mean[c] += vectors[i * channels + c] / static_cast<double>(count);
    std::vector<double> given;
    const int64_t taken = random.one_in(2) ? std::min(count, directions) : 0;
    for (int64_t i = 0; i < taken; ++i)
        for (int64_t c = 0; c < channels; ++c) given.push_back(vectors[i * channels + c] - mean[c]);
    const int64_t wrong = random.below(12);
    if (wrong == 0) mean.assign(channels, 0);
    if (wrong == 1)
        for (double& value : mean) value += 10 * random.normal();
    if (wrong == 2)
        for (double& value : mean) value = 1e30 * random.normal();
    if (wrong == 3) mean[random.below(channels)] = std::numeric_limits<double>::quiet_NaN();
    std::vector<float> basis(mean.begin(), mean.end());
    const double stretch = random.one_in(3) ? 1 + 4.5e-4 / std::sqrt(static_cast<double>(directions + 1)) : 1;
    for (const double value : orthonormal_rows(random, directions, channels, given))
        basis.push_back(static_cast<float>(value * stretch));
    return basis;
}

}  // namespace spadeline
