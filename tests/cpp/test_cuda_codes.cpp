// Bounds of pairs of cells as the CUDA kernels compute them, encoding included, on an emulated device: never above the
// distance, whatever the vectors and the basis, and close to it for vectors that are like a network's.
//
//     test_cuda_codes [ROUNDS [SEED]]
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cases.hpp"
#include "expect.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/coarse.cuh"
#include "matcher/cuda/encode.cuh"
#include "matcher/cuda/memory.hpp"
#include "on_device.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

constexpr int64_t kStored = 20, kAsked = 37;  // vectors: no whole number of panels

// One level of `kAsked` by one positions: its cells. `directions` of 0: rotated codes.
struct Vectors {
    int64_t channels, directions;
    std::vector<float> stored, asked, basis;  // (vectors, channels); (1 + directions, channels)
};

std::vector<float> random_rows(Random& random, Values values, int64_t count, int64_t channels) {
    const PyramidShape shape(1, count, {{channels, 0}});
    return to_cells(shape, 0, random_map(random, values, shape.levels()[0], 1), 1).values;
}

Vectors random_vectors(Random& random, Values values, int64_t channels, int64_t directions) {
    Vectors v{channels,
              directions,
              random_rows(random, values, kStored, channels),
              random_rows(random, values, kAsked, channels),
              {}};
    v.basis = random_basis(random, v.stored, channels, directions);
    if (values == Values::bytes) {  // codes without an error: all that lowers their bounds is what roundings may lift
        for (int64_t i = 0; i < kStored; ++i) v.stored[i * channels + i % channels] = 127;
        std::fill_n(v.basis.begin(), channels, 0.0f);
    }
    for (int64_t i = 0; i < kAsked; ++i) {
        float* row = v.asked.data() + i * channels;
        const float* other = v.stored.data() + i % kStored * channels;
        double norm = 0;
        for (int64_t c = 0; c < channels; ++c) norm += static_cast<double>(row[c]) * row[c];
        norm = std::sqrt(norm);
        const float limit = random.one_in(2) ? 0x1p-40f : 0x1p50f;
        if (i % 5 == 0) std::copy_n(other, channels, row);
        if (i % 5 == 1)
            for (int64_t c = 0; c < channels; ++c)
                row[c] = values == Values::bytes ? std::min(other[c] + (random.one_in(8) ? 1.0f : 0.0f), 127.0f)
                                                 : static_cast<float>(other[c] * (1 - 1e-4 * random.uniform()));
        if (i % 5 == 2 && norm > 0)
            for (int64_t c = 0; c < channels; ++c)
                row[c] = static_cast<float>(row[c] / norm * limit * (1 + 1e-6 * random.normal()));
        if (i == 3) std::fill_n(row, channels, 0.0f);
    }
    return v;
}

// The kernels' bounds of all pairs, (kAsked, kPanel * panels).
std::vector<float> device_bounds(const Vectors& v, double weight) {
    const int64_t channels = v.channels, panels = ceil_div(kStored, kPanel);
    const LevelEncoder encoder(kernels_named("auto"), channels, v.directions, v.basis.data());
    const Codebook& book = encoder.book();
    std::vector<uint8_t> records(panels * encoder.record(kPanel));
    encoder.encode_records(v.stored.data(), kStored, kPanel, records.data());

    const int64_t groups = ceil_div(kAsked, kPanel);
    std::vector<int64_t> raster(kAsked), slots(1);
    for (int64_t i = 0; i < kAsked; ++i) raster[i] = i;
    std::vector<float> map(v.asked.size());  // (channels, 1, kAsked)
    for (int64_t i = 0; i < kAsked; ++i)
        for (int64_t c = 0; c < channels; ++c) map[c * kAsked + i] = v.asked[i * channels + c];
    const OnDevice<int64_t> rasters(raster);
    const OnDevice<int32_t> slot(std::vector<int32_t>(1));
    const OnDevice<float> source(map), query(std::vector<float>(map.size())), mean(v.basis),
        signs(book.signs ? std::vector<float>(book.signs, book.signs + book.dims) : std::vector<float>{}),
        projections(std::vector<float>(v.directions * kAsked)), bounds(std::vector<float>(48 * panels * kPanel));
    const OnDevice<uint8_t> gallery(records), codes(std::vector<uint8_t>(groups * encoder.record(kPanel)));
    const OnDevice<DeviceReport> report(std::vector<DeviceReport>(1));

    DeviceTask task{};
    task.level_count = v.directions ? 2 : 1;
    task.level[0].channels = 1;  // with directions, the level above has no codes, and nothing to gather
    task.level[0].source = source.data();
    task.level[0].raster = rasters.data();
    DeviceLevel& level = task.level[task.level_count - 1];
    level.channels = static_cast<int32_t>(channels);
    level.block = 1;
    level.positions = kAsked;
    level.height = 1;
    level.width = kAsked;
    level.weight = weight;
    level.raster = rasters.data();
    level.source = source.data();
    level.query = query.data();
    (v.directions ? level.projected : level.rotated) = {
        {static_cast<int32_t>(book.dims), mean.data(), signs.data(), v.directions ? mean.data() + channels : nullptr,
         book.projection_error},
        static_cast<int32_t>(kPanel),
        panels,
        encoder.record(kPanel),
        gallery.data(),
        codes.data(),
        projections.data()};
    task.cells = kAsked;
    task.cell_columns = kAsked;
    task.slots = slot.data();
    task.image_count = 1;
    task.window = kEverywhere;
    task.band = kAsked;
    task.panels = panels;
    task.stride = panels * kPanel;
    task.bounds = bounds.data();
    task.report = report.data();
    const Stream stream;
    check(launch_gather(task, stream), "launch_gather", "a test");
    check(launch_encode(task, stream), "launch_encode", "a test");
    check(launch_coarse(task, stream), "launch_coarse", "a test");
    return bounds.values();
}

// Checks that no bound exceeds its distance. Returns bound / distance of every pair of vectors that differ.
std::vector<double> check_bounds(const Vectors& v, const std::string& name) {
    const double weight = 0.3;
    const std::vector<float> bounds = device_bounds(v, weight);
    const int64_t stride = round_up(kStored, kPanel);
    std::vector<double> tightness;
    for (int64_t i = 0; i < kAsked; ++i)
        for (int64_t j = 0; j < kStored; ++j) {
            long double distance = 0;
            for (int64_t c = 0; c < v.channels; ++c) {
                const long double d =
                    static_cast<long double>(v.asked[i * v.channels + c]) - v.stored[j * v.channels + c];
                distance += d * d;
            }
            const double bound = bounds[i * stride + j];
            expect(bound <= weight * distance * (1 + 0x1p-18L),
                   name + ", query " + std::to_string(i) + " with " + std::to_string(j) + ": bound " +
                       std::to_string(bound) + " of " + std::to_string(weight * distance));
            if (distance > 0) tightness.push_back(bound / static_cast<double>(weight * distance));
        }
    return tightness;
}

void check_soundness(int64_t rounds, uint64_t seed) {
    Random random(seed);
    for (int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < static_cast<int>(Values::count); ++i) {
            const int64_t channels = random.one_in(3) ? 64 * random.upto(5) : random.upto(150);
            const int64_t directions = 16 * random.below(std::min<int64_t>(channels, 96) / 16 + 1);
            const Vectors v = random_vectors(random, static_cast<Values>(i), channels, directions);
            const std::string name = "round " + std::to_string(round) + ", values " + std::to_string(i) + ", " +
                                     std::to_string(channels) + " channels, " + std::to_string(directions) +
                                     " directions";
            check_bounds(v, name);
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
        Vectors v{channels, directions, std::vector<float>(kStored * channels), std::vector<float>(kAsked * channels),
                  std::vector<float>((1 + directions) * channels)};
        for (int64_t d = 0; d < directions; ++d)
            v.basis[(1 + d) * channels + d] = d ? 1.0f : static_cast<float>(1 + stretch);
        for (auto* rows : {&v.stored, &v.asked})
            for (size_t i = 0; i < rows->size(); i += channels) {
                (*rows)[i] = static_cast<float>((random.one_in(4) ? -1 : 1) * (1 + 0.01 * random.normal()));
                (*rows)[i + directions] = static_cast<float>(rest * (1 + 0.001 * random.normal()));
            }
        check_bounds(v, "stretched by " + std::to_string(stretch));
    }
}

// Bounds of 0 would be sound, so this checks that bounds are tight, by medians over pairs.
void check_tightness() {
    Random random(2);
    for (const int64_t channels : {100, 256})
        for (const int64_t directions : {0, 16}) {
            const std::vector<float> all = random_rows(random, Values::smooth, kStored + kAsked, channels);
            const auto middle = all.begin() + kStored * channels;
            Vectors v{channels, directions, {all.begin(), middle}, {middle, all.end()}, std::vector<float>(channels)};
            const std::vector<double> given(all.begin(), all.end());
            for (const double value : orthonormal_rows(random, directions, channels, given))
                v.basis.push_back(static_cast<float>(value));
            std::vector<double> tightness = check_bounds(v, "tightness");
            std::sort(tightness.begin(), tightness.end());
            const double median = tightness[tightness.size() / 2];
            expect(median > (directions ? 0.9 : 0.95), "a median bound of " + std::to_string(median));
        }
}

}  // namespace

int main(int count, char** arguments) {
    const auto [rounds, seed, random_alone] = read_arguments(count, arguments, 2);
    check_soundness(rounds, seed);
    check_stretched_directions();
    check_tightness();
    return report();
}
