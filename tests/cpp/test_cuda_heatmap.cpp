// The anomaly map's kernels on an emulated device, against its formula in float64, over random sizes and masks.
//
//     test_cuda_heatmap [CASES [SEED]]      test_cuda_heatmap 1 SEED: a case that failed
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "expect.hpp"
#include "features.hpp"
#include "matcher/cuda/heatmap.hpp"
#include "on_device.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

struct HeatmapCase {
    uint64_t seed;
    MapSize size, map;
    double sigma;
    bool root;
    std::vector<double> distances;
    std::vector<uint8_t> ignore, ignored_distances;  // or empty
    float theta;

    std::string name() const {
        return "test_cuda_heatmap 1 " + std::to_string(seed) + ": " + std::to_string(size.height) + " x " +
               std::to_string(size.width) + " to " + std::to_string(map.height) + " x " + std::to_string(map.width) +
               ", sigma " + std::to_string(sigma) + (root ? ", root" : "") + (ignore.empty() ? "" : ", masked") + ": ";
    }
    double value(int64_t i) const { return root ? std::sqrt(distances[i]) : distances[i]; }
};

// A mask of one or two rectangles and single pixels, sometimes of everything or of nothing.
std::vector<uint8_t> random_mask(Random& random, MapSize size) {
    std::vector<uint8_t> mask(size.height * size.width);
    const int64_t sort = random.below(8);
    if (sort == 0) std::fill(mask.begin(), mask.end(), uint8_t{1});
    if (sort <= 1) return mask;
    for (int64_t i = random.upto(2); i > 0; --i) {
        const int64_t top = random.below(size.height), left = random.below(size.width);
        const int64_t bottom = top + random.upto(size.height - top), right = left + random.upto(size.width - left);
        for (int64_t y = top; y < bottom; ++y) std::fill_n(mask.begin() + y * size.width + left, right - left, 1);
    }
    if (sort > 4)
        for (uint8_t& value : mask) value ^= random.one_in(9);
    return mask;
}

// The distances that no scored pixel uses, not even in part.
std::vector<uint8_t> ignored_below(const HeatmapCase& c) {
    std::vector<uint8_t> ignored(c.size.height * c.size.width, 1);
    const auto last = [](int64_t i, int64_t side, int64_t map_side) { return ((i + 1) * side - 1) / map_side; };
    for (int64_t y = 0; y < c.map.height; ++y)
        for (int64_t x = 0; x < c.map.width; ++x) {
            if (c.ignore[y * c.map.width + x]) continue;
            for (int64_t v = y * c.size.height / c.map.height; v <= last(y, c.size.height, c.map.height); ++v)
                for (int64_t u = x * c.size.width / c.map.width; u <= last(x, c.size.width, c.map.width); ++u)
                    ignored[v * c.size.width + u] = 0;
        }
    return ignored;
}

HeatmapCase random_case(uint64_t seed) {
    Random random(seed);
    HeatmapCase c{seed, {random.upto(20), random.upto(30)}, {}, 0, random.one_in(3), {}, {}, {}, 0};
    if (random.one_in(6)) c.size.height = 1;
    if (random.one_in(6)) c.size.width = 1;
    const auto enlarged = [&](int64_t side, int64_t most) {
        return random.one_in(4) ? side : side + random.below(most);
    };
    c.map = {enlarged(c.size.height, 60), enlarged(c.size.width, random.one_in(6) ? 600 : 60)};
    const double sigmas[] = {0, 0.1, 0.4, 1.5, 4, 11, 40};
    c.sigma = sigmas[random.below(7)];
    const double scale = random.one_in(3) ? std::exp(40 * random.normal() / 3) : 1;
    for (int64_t i = 0; i < c.size.height * c.size.width; ++i)
        c.distances.push_back(random.one_in(5) ? 0 : scale * random.uniform());
    if (random.one_in(2)) {
        c.ignore = random_mask(random, c.map);
        c.ignored_distances = ignored_below(c);
        for (size_t i = 0; i < c.distances.size(); ++i)  // any value may lie there
            if (c.ignored_distances[i]) c.distances[i] = random.one_in(2) ? 1e30 : std::nan("");
    }
    c.theta = static_cast<float>((c.root ? std::sqrt(scale) : scale) * random.uniform());
    if (random.one_in(4)) c.theta = 0;  // ignored pixels are 0 and must not exceed it
    return c;
}

// Values between those of a line whose ends are repeated: the places that they are made of, and weights of sum 1.
struct Share {
    int64_t at;
    double weight;
};
using Shares = std::vector<std::vector<Share>>;

Shares enlarging(int64_t side, int64_t map_side) {
    Shares shares;
    for (int64_t i = 0; i < map_side; ++i) {
        const double at =
            (static_cast<double>(i) + 0.5) * static_cast<double>(side) / static_cast<double>(map_side) - 0.5;
        const double below = std::floor(at);
        const auto held = [&](double place) { return std::clamp(static_cast<int64_t>(place), int64_t{0}, side - 1); };
        shares.push_back({{held(below), 1 - (at - below)}, {held(below + 1), at - below}});
    }
    return shares;
}

Shares smoothing(int64_t side, double sigma) {
    const auto radius = static_cast<int64_t>(4 * sigma + 0.5);
    Shares shares(side);
    for (std::vector<Share>& line : shares) {
        double sum = 0;
        const int64_t centre = &line - shares.data();
        for (int64_t i = -radius; i <= radius; ++i) {
            int64_t at = centre + i;
            while (at < 0 || at >= side) at = at < 0 ? -1 - at : 2 * side - 1 - at;
            const auto apart = static_cast<double>(i);
            line.push_back({at, i ? std::exp(-apart * apart / (2 * sigma * sigma)) : 1});
            sum += line.back().weight;
        }
        for (Share& share : line) share.weight /= sum;
    }
    return shares;
}

// Both shares' sum of (height, width) values.
std::vector<double> mixed(const std::vector<double>& values, int64_t width, const Shares& down, const Shares& across) {
    const auto height = static_cast<int64_t>(values.size()) / width, columns = static_cast<int64_t>(across.size());
    std::vector<double> rows(height * columns), all(down.size() * across.size());
    for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < columns; ++x)
            for (const Share& share : across[x]) rows[y * columns + x] += share.weight * values[y * width + share.at];
    for (size_t y = 0; y < down.size(); ++y)
        for (const Share& share : down[y])
            for (int64_t x = 0; x < columns; ++x) all[y * columns + x] += share.weight * rows[share.at * columns + x];
    return all;
}

std::vector<double> formula(const HeatmapCase& c) {
    const Shares down = enlarging(c.size.height, c.map.height), across = enlarging(c.size.width, c.map.width);
    const Shares smooth_down = smoothing(c.map.height, c.sigma), smooth_across = smoothing(c.map.width, c.sigma);
    std::vector<double> values, scored;
    for (size_t i = 0; i < c.distances.size(); ++i) {
        scored.push_back(c.ignore.empty() || !c.ignored_distances[i]);
        values.push_back(scored[i] ? c.value(static_cast<int64_t>(i)) : 0);
    }
    std::vector<double> enlarged = mixed(values, c.size.width, down, across);
    if (c.ignore.empty()) return mixed(enlarged, c.map.width, smooth_down, smooth_across);
    const std::vector<double> shares = mixed(scored, c.size.width, down, across);
    std::vector<double> inside;
    for (size_t i = 0; i < enlarged.size(); ++i) {
        inside.push_back(!c.ignore[i]);
        enlarged[i] = c.ignore[i] ? 0 : enlarged[i] / shares[i];
    }
    std::vector<double> map = mixed(enlarged, c.map.width, smooth_down, smooth_across);
    const std::vector<double> divisor = mixed(inside, c.map.width, smooth_down, smooth_across);
    for (size_t i = 0; i < map.size(); ++i) map[i] = c.ignore[i] ? 0 : map[i] / divisor[i];
    return map;
}

// How far float32 may be off, in units of 2^-24 of the largest value m. A value is rounded: 1. Each of two mixes takes
// its part, 1 - part, two products and a sum: 4 m. Each Gaussian takes its weights and as many sums: side + 1. With a
// mask there is a divisor of at least 1/4 that is off by as much, and one that is off by as much as what it divides.
double tolerance(const HeatmapCase& c) {
    double largest = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(c.distances.size()); ++i)
        if (c.ignore.empty() || !c.ignored_distances[i]) largest = std::max(largest, c.value(i));
    const double gaussians = 2 * (2 * std::floor(4 * c.sigma + 0.5) + 2);
    const double units = c.ignore.empty() ? 9 + gaussians : 4 * (9 + 8) + 1 + 2 * gaussians + 1;
    return largest * units * 0x1p-24 * 1.01 + std::numeric_limits<float>::min();
}

struct HeatmapAnswer {
    std::vector<float> map;
    std::vector<uint8_t> mask;
    float maximum;
};

CudaHeatmap heatmap_of(const HeatmapCase& c) {
    const bool masked = !c.ignore.empty();
    return CudaHeatmap(c.size, c.map, c.sigma, masked ? c.ignore.data() : nullptr,
                       masked ? c.ignored_distances.data() : nullptr);
}

HeatmapAnswer ask(const HeatmapCase& c) {
    const CudaHeatmap heatmap = heatmap_of(c);
    const OnDevice<double> distances(c.distances);
    const auto pixels = static_cast<size_t>(c.map.height * c.map.width);
    const OnDevice<float> map(pixels), maximum(1);
    const OnDevice<uint8_t> mask(pixels);
    const Stream stream;
    check(heatmap.enqueue(distances.data(), c.root, c.theta, map.data(), mask.data(), maximum.data(), stream),
          "enqueue", "a test");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test");
    return {map.values(), mask.values(), maximum.values()[0]};
}

void check_case(const HeatmapCase& c) {
    emulated::device().seed = c.seed;
    emulated::device().deferred = c.seed % 2;
    try {
        const HeatmapAnswer answer = ask(c);
        const std::vector<double> expected = formula(c);
        const double bound = tolerance(c);
        size_t worst = 0;
        const auto off = [&](size_t i) { return std::abs(answer.map[i] - expected[i]); };
        for (size_t i = 0; i < expected.size(); ++i) {
            if (!(off(i) <= off(worst))) worst = i;
            expect(answer.mask[i] == (answer.map[i] > c.theta), c.name() + "mask, pixel " + std::to_string(i));
            expect(c.ignore.empty() || !c.ignore[i] || answer.map[i] == 0, c.name() + "an ignored pixel isn't 0");
        }
        expect(off(worst) <= bound, c.name() + "pixel " + std::to_string(worst) + ": expected " +
                                        std::to_string(expected[worst]) + " within " + std::to_string(bound) +
                                        ", got " + std::to_string(answer.map[worst]));
        expect(answer.maximum == *std::max_element(answer.map.begin(), answer.map.end()), c.name() + "maximum");
    } catch (const std::exception& error) {
        expect(false, c.name() + error.what());
    }
}

// Frames one after the other, by a graph: nothing of a frame, its maximum included, affects the next.
void check_graph() {
    HeatmapCase c{0, {7, 9}, {40, 50}, 2, false, std::vector<double>(63, 9.0), {}, {}, 5};
    const CudaHeatmap heatmap = heatmap_of(c);
    const OnDevice<double> distances(c.distances);
    const OnDevice<float> map(2000), maximum(1);
    const OnDevice<uint8_t> mask(2000);
    const Stream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t frame = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", "a test");
    check(heatmap.enqueue(distances.data(), false, c.theta, map.data(), mask.data(), maximum.data(), stream), "enqueue",
          "a test");
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture", "a test");
    check(cudaGraphInstantiate(&frame, graph), "cudaGraphInstantiate", "a test");
    for (const double value : {9.0, 4.0}) {
        const std::vector<double> values(63, value);
        check(cudaMemcpyAsync(distances.data(), values.data(), 63 * sizeof(double), cudaMemcpyHostToDevice, stream),
              "cudaMemcpyAsync", "a test");
        check(cudaGraphLaunch(frame, stream), "cudaGraphLaunch", "a test");
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test");
        expect(std::abs(maximum.values()[0] - value) < 1e-4, "a graph's maximum");
        expect(mask.values() == std::vector<uint8_t>(2000, value > 5), "a graph's mask");
    }
    cudaGraphExecDestroy(frame);
    cudaGraphDestroy(graph);
}

void check_refusals() {
    const std::vector<uint8_t> ignore(100);
    using Refused = std::invalid_argument;
    expect_thrown<Refused>("a map smaller than the distances", [] { CudaHeatmap({10, 10}, {10, 9}, 1); });
    expect_thrown<Refused>("no distances", [] { CudaHeatmap({0, 10}, {10, 10}, 1); });
    expect_thrown<Refused>("a negative sigma", [] { CudaHeatmap({10, 10}, {10, 10}, -1); });
    expect_thrown<Refused>("no sigma", [] { CudaHeatmap({10, 10}, {10, 10}, std::nan("")); });
    expect_thrown<Refused>("half a mask", [&] { CudaHeatmap({10, 10}, {10, 10}, 1, ignore.data()); });
    const int64_t before = emulated::alive();
    for (int64_t failing = 0; failing < 4; ++failing) {  // the heatmap's own, then those of its divisor
        emulated::device().failing_allocation = failing;
        expect_thrown<OutOfDeviceMemory>("no memory",
                                         [&] { CudaHeatmap({10, 10}, {10, 10}, 1, ignore.data(), ignore.data()); });
    }
    emulated::device().failing_allocation = -1;
    expect(emulated::alive() == before, "memory that a failure left behind");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 100);
    if (!random_alone) {
        check_graph();
        check_refusals();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(random_case(i));
    expect(emulated::alive() == 0, std::to_string(emulated::alive()) + " things were never freed");
    return report();
}
