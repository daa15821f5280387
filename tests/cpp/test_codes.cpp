// What codes promise, on every instruction set: bounds made from them never exceed the vectors' distance, whatever the
// vectors and the basis, and come close to it for vectors that are like a network's.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "matcher/sizes.hpp"
#include "support/cases.hpp"
#include "support/expect.hpp"

using namespace spadeline;

namespace {

constexpr int64_t kStored = 20, kAsked = 19;  // vectors: no whole number of panels, and of every tile of queries

// The codes of one side, unpacked from records or as the encoder writes them.
struct Side {
    std::vector<int8_t> codes;                     // (count, dims)
    std::vector<std::array<float, kTerms>> terms;  // (count): scale, norm, error, residual

    bool operator==(const Side&) const = default;
};

float within_floats(double value) {
    constexpr double most = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(value, -most, most));
}

// Rows of vectors, (count, channels).
std::vector<float> random_rows(Random& random, Values values, int64_t count, int64_t channels) {
    const PyramidShape shape(1, count, {{channels, 0}});
    return to_cells(shape, 0, random_map(random, values, shape.levels()[0], 1), 1).values;
}

// Vectors of which some are like a stored one, and some are at the limits of what is encoded.
std::vector<float> random_queries(Random& random, Values values, int64_t channels, const std::vector<float>& stored,
                                  const std::vector<float>& basis) {
    std::vector<float> rows = random_rows(random, values, kAsked, channels);
    for (int64_t i = 0; i < kAsked; ++i) {
        float* row = rows.data() + i * channels;
        const float* other = stored.data() + i * channels;
        double norm = 0;
        for (int64_t c = 0; c < channels; ++c) norm += static_cast<double>(row[c]) * row[c];
        norm = std::sqrt(norm);
        const float limit = random.one_in(2) ? 0x1p-40f : 0x1p50f;
        const auto directions = static_cast<int64_t>(basis.size()) / channels - 1;
        switch (i % 7) {
            case 0:
                std::copy_n(other, channels, row);
                break;
            case 1:
                for (int64_t c = 0; c < channels; ++c)
                    row[c] = values == Values::bytes ? std::min(other[c] + (random.one_in(8) ? 1.0f : 0.0f), 127.0f)
                                                     : static_cast<float>(other[c] * (1 - 1e-4 * random.uniform()));
                break;
            case 2:
                std::fill_n(row, channels, 0.0f);
                break;
            case 3:
                row[random.below(channels)] *= 0.999e-3f;
                break;
            case 4:
                for (int64_t c = 0; c < channels && norm > 0; ++c)
                    row[c] = static_cast<float>(row[c] / norm * limit * (1 + 1e-6 * random.normal()));
                break;
            case 5:  // nearly nothing in the directions that are kept
                for (int64_t d = 1; d <= directions; ++d) {
                    double along = 0;
                    for (int64_t c = 0; c < channels; ++c)
                        along += static_cast<double>(row[c]) * basis[d * channels + c];
                    for (int64_t c = 0; c < channels; ++c)
                        row[c] = within_floats(row[c] - along * basis[d * channels + c]);
                }
                break;
            default:
                break;
        }
    }
    return rows;
}

Side unpacked(const std::vector<uint8_t>& records, int64_t count, int64_t dims, int64_t group) {
    Side side{std::vector<int8_t>(count * dims), std::vector<std::array<float, kTerms>>(count)};
    for (int64_t i = 0; i < count; ++i) {
        const uint8_t* record = records.data() + i / group * group * (dims + kTerms * 4);
        for (int64_t d = 0; d < dims; ++d)
            side.codes[i * dims + d] =
                static_cast<int8_t>(record[(d / 4 * group + i % group) * 4 + d % 4] - kByteOffset);
        for (int64_t t = 0; t < kTerms; ++t)
            std::memcpy(&side.terms[i][t], record + dims * group + (t * group + i % group) * 4, 4);
    }
    return side;
}

// The formula of cpu/bound.hpp in float64. `size` gets the magnitude that its roundings are relative to.
double plain_bound(const Side& a, int64_t i, const Side& b, int64_t j, int64_t dims, double& size) {
    int64_t dot = 0;
    for (int64_t d = 0; d < dims; ++d) dot += a.codes[i * dims + d] * b.codes[j * dims + d];
    const auto [scale_a, norm_a, error_a, residual_a] = a.terms[i];
    const auto [scale_b, norm_b, error_b, residual_b] = b.terms[j];
    const double apart = static_cast<double>(residual_a) - residual_b;
    size = static_cast<double>(norm_a) + norm_b + apart * apart;
    const double squared = size - 2.0 * scale_a * scale_b * static_cast<double>(dot);
    const double distance = std::sqrt(std::max(0.0, squared)) - error_a - error_b;
    return distance > 0 ? distance * distance : 0;
}

class Check {
 public:
    Check(std::string name, int64_t channels, const std::vector<float>& stored, const std::vector<float>& asked,
          const std::vector<float>& basis)
        : name_(std::move(name)), channels_(channels), stored_(stored), asked_(asked), basis_(basis) {
        for (int64_t i = 0; i < kAsked; ++i)
            for (int64_t j = 0; j < kStored; ++j) {
                long double sum = 0;
                for (int64_t c = 0; c < channels; ++c) {
                    const long double d = static_cast<long double>(asked[i * channels + c]) - stored[j * channels + c];
                    sum += d * d;
                }
                distances_.push_back(sum);
            }
    }

    // Stored codes of one instruction set, queries of another. Returns bound / distance of every pair that isn't equal.
    std::vector<double> run(const Kernels& storing, const Kernels& asking, int64_t directions) const {
        const std::string name = name_ + ", " + std::to_string(channels_) + " channels, " + std::to_string(directions) +
                                 " directions, " + storing.name + " by " + asking.name;
        const LevelEncoder encoder(storing, channels_, directions, basis_.data());
        const LevelEncoder query_encoder(asking, channels_, directions, basis_.data());
        const int64_t dims = encoder.book().dims, panels = ceil_div(kStored, kPanel);
        std::vector<uint8_t> records(panels * encoder.record(kPanel));
        encoder.encode_records(stored_.data(), kStored, kPanel, records.data());
        const Side stored = unpacked(records, kStored, dims, kPanel);
        check_records(encoder, stored, records, name);

        Side asked{std::vector<int8_t>(kAsked * dims), std::vector<std::array<float, kTerms>>(kAsked)};
        std::vector<int32_t> sums(kAsked);
        const CodeRows rows{asked.codes.data(), asked.terms[0].data(), sums.data()};
        AlignedBuffer<float> workspace;
        asking.encode(query_encoder.book(), asked_.data(), kAsked, rows,
                      workspace.reserve(asking.encode_floats(query_encoder.book())));
        for (int64_t i = 0; i < kAsked; ++i) {
            int32_t sum = 0;
            for (int64_t d = 0; d < dims; ++d) sum += asked.codes[i * dims + d];
            expect(sums[i] == sum, name + ": the codes' sum");
        }

        const double weight = 0.3;
        MatchTask task{};
        task.level_count = directions ? 2 : 1;
        LevelTask& level = task.level[task.level_count - 1];
        level.weight = weight;
        (directions ? level.projected : level.rotated) = {dims, panels, encoder.record(kPanel), records.data(), rows};
        std::vector<float> bounds(panels * kPanel * kAsked);
        for (int64_t p = 0; p < panels; ++p)
            asking.bound_panel(task, rows, kAsked, 0, p, bounds.data() + p * kPanel, panels * kPanel);

        std::vector<double> tightness;
        for (int64_t i = 0; i < kAsked; ++i)
            for (int64_t j = 0; j < kStored; ++j) {
                const long double distance = distances_[i * kStored + j];
                double size;
                const double bound = plain_bound(asked, i, stored, j, dims, size);
                const double computed = bounds[i * panels * kPanel + j];
                const std::string pair = name + ", query " + std::to_string(i) + " with " + std::to_string(j) + ": ";
                const std::string values = std::to_string(bound) + " of " + std::to_string(distance);
                expect(bound <= distance, pair + "bound " + values);
                expect(computed <= weight * distance * (1 + 0x1p-18L),
                       pair + "computed bound too high, plain " + values);
                expect(std::abs(computed - weight * bound) <= weight * size * 0x1p-19,
                       pair + "computed " + std::to_string(computed) + ", plain " + values);
                if (distance > 0) tightness.push_back(bound / static_cast<double>(distance));
            }
        return tightness;
    }

 private:
    // Records of another group size hold the same codes. What fills up the last record is infinitely far away.
    void check_records(const LevelEncoder& encoder, const Side& stored, const std::vector<uint8_t>& records,
                       const std::string& name) const {
        const int64_t dims = encoder.book().dims, filled = static_cast<int64_t>(records.size()) / encoder.record(1);
        std::vector<uint8_t> small(kStored / kGroup * encoder.record(kGroup));
        encoder.encode_records(stored_.data(), kStored, kGroup, small.data());
        expect(unpacked(small, kStored, dims, kGroup) == stored, name + ": groups differ");
        const Side all = unpacked(records, filled, dims, kPanel);
        for (int64_t i = kStored; i < filled; ++i)
            expect(std::isinf(all.terms[i][1]), name + ": filled up with a vector");
    }

    const std::string name_;
    const int64_t channels_;
    const std::vector<float>&stored_, &asked_, &basis_;
    std::vector<long double> distances_;  // (kAsked, kStored)
};

void check_soundness(size_t cases) {
    std::vector<int64_t> widths = {255, 256, 257, 1008, 1024, 1792};
    for (int64_t channels = 1; channels <= 70; channels += channels < 20 || channels > 60 ? 1 : 5)
        widths.push_back(channels);
    const size_t step = std::max<size_t>(widths.size() / cases, 1);
    const auto available = available_kernels();
    Random random(1);
    for (size_t w = 0; w < widths.size(); w += step)
        for (int v = 0; v < static_cast<int>(Values::count); ++v) {
            const int64_t channels = widths[w];
            const auto values = static_cast<Values>(v);
            std::vector<float> stored = random_rows(random, values, kStored, channels);
            const int64_t directions = 16 * random.below(std::min<int64_t>(channels, 128) / 16 + 1);
            std::vector<float> basis = random_basis(random, stored, channels, directions);
            if (values ==
                Values::bytes) {  // codes without an error: all that lowers their bounds is what roundings may lift
                for (int64_t i = 0; i < kStored; ++i) stored[i * channels + i % channels] = 127;
                std::fill_n(basis.begin(), channels, 0.0f);
            }
            const std::vector<float> asked = random_queries(random, values, channels, stored, basis);
            const Check check("values " + std::to_string(v), channels, stored, asked, basis);
            for (const Kernels* kernels : available) {
                check.run(*kernels, *kernels, 0);
                if (directions) check.run(*kernels, *kernels, directions);
                if (directions) check.run(*available.front(), *kernels, directions);
            }
        }
}

// The directions are as far from orthonormal as is allowed, all of it in the first one. The vectors lie in that
// direction and in those that are left out, so that their codes have no error of their own.
void check_stretched_directions() {
    constexpr int64_t channels = 32, directions = 16;
    Random random(3);
    for (int round = 0; round < 40; ++round) {
        const double stretch = (round % 2 ? 4.9e-4 : -4.9e-4) * random.uniform();
        const double rest =
            round % 4 < 2 ? 1 : std::sqrt(2 * std::abs(stretch));  // a small residual has a large relative error
        std::vector<float> basis((1 + directions) * channels);
        for (int64_t d = 0; d < directions; ++d)
            basis[(1 + d) * channels + d] = d ? 1.0f : static_cast<float>(1 + stretch);
        std::vector<float> rows((kStored + kAsked) * channels);
        for (size_t i = 0; i < rows.size(); i += channels) {
            rows[i] = static_cast<float>((random.one_in(4) ? -1 : 1) * (1 + 0.01 * random.normal()));
            rows[i + directions] = static_cast<float>(rest * (1 + 0.001 * random.normal()));
        }
        const std::vector<float> stored(rows.begin(), rows.begin() + kStored * channels);
        const std::vector<float> asked(rows.begin() + kStored * channels, rows.end());
        const Check check("stretched by " + std::to_string(stretch), channels, stored, asked, basis);
        for (const Kernels* kernels : available_kernels()) check.run(*kernels, *kernels, directions);
    }
}

// Bounds of 0 would be sound, so this checks that bounds are tight, by medians over pairs. A network's features lie
// between the two kinds of vectors.
void check_tightness() {
    Random random(2);
    for (const int64_t channels : {64, 100, 256, 1024})
        for (const auto values : {Values::normal, Values::smooth}) {
            const std::vector<float> all = random_rows(random, values, kStored + kAsked, channels);
            const std::vector<float> stored(all.begin(), all.begin() + kStored * channels);
            const std::vector<float> asked(all.begin() + kStored * channels, all.end());
            std::vector<float> basis(channels);  // the mean: 0
            const std::vector<double> given(all.begin(), all.end());
            for (const double value : orthonormal_rows(random, 16, channels, given))
                basis.push_back(static_cast<float>(value));
            const Check check("tightness", channels, stored, asked, basis);
            for (const Kernels* kernels : available_kernels())
                for (const int64_t directions : {0, 16}) {
                    if (directions && values == Values::normal) continue;  // nothing is left out for nothing
                    std::vector<double> tightness = check.run(*kernels, *kernels, directions);
                    const auto middle = tightness.begin() + static_cast<int64_t>(tightness.size()) / 2;
                    std::nth_element(tightness.begin(), middle, tightness.end());
                    const double least = directions ? 0.9 : 0.95;
                    expect(*middle > least,
                           std::string(kernels->name) + ": a median bound of " + std::to_string(*middle));
                }
        }
}

void check_refusals() {
    const Kernels& kernels = *available_kernels().front();
    std::vector<float> basis(kMostDims + 1);
    LevelEncoder(kernels, kMostDims, 0, basis.data());
    expect_refused<std::invalid_argument>("codes: expected at most 32768 channels, got 32769",
                                          [&] { LevelEncoder(kernels, kMostDims + 1, 0, basis.data()); });
    expect_refused<std::invalid_argument>(
        "codes: expected a multiple of 16 orthonormal directions, got 16, off by 4.000000",
        [&] { LevelEncoder(kernels, 20, 16, basis.data()); });
    expect_refused<std::invalid_argument>(
        "codes: expected a multiple of 16 orthonormal directions, got 8, off by 2.828427",
        [&] { LevelEncoder(kernels, 20, 8, basis.data()); });
    for (int64_t d = 0; d < 16; ++d) basis[20 + d * 20 + d] = d ? 1.0f : 1.001f;
    expect_refused<std::invalid_argument>(
        "codes: expected a multiple of 16 orthonormal directions, got 16, off by 0.002001",
        [&] { LevelEncoder(kernels, 20, 16, basis.data()); });
}

}  // namespace

int main(int count, char** arguments) {
    check_soundness(read_arguments(count, arguments, 40).cases);
    check_stretched_directions();
    check_tightness();
    check_refusals();
    return report();
}
