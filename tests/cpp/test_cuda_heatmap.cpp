// The anomaly map's kernels on an emulated device, against its formula in float64 and against the CPU's map, over
// random sizes and masks.
//
//     test_cuda_heatmap [CASES [SEED]]      test_cuda_heatmap 1 SEED: a case that failed
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/heatmap.hpp"
#include "matcher/heatmap.hpp"
#include "support/expect.hpp"
#include "support/heatmaps.hpp"
#include "support/on_device.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

struct HeatmapAnswer {
    std::vector<float> map;
    std::vector<uint8_t> mask;
    float maximum;
};

CudaHeatmap cuda_heatmap_of(const HeatmapCase& c) {
    const bool masked = !c.ignore.empty();
    return CudaHeatmap(c.size, c.map, c.sigma, masked ? c.ignore.data() : nullptr,
                       masked ? c.ignored_distances.data() : nullptr);
}

HeatmapAnswer ask(const HeatmapCase& c) {
    const CudaHeatmap heatmap = cuda_heatmap_of(c);
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
        const Kernels& best = *available_kernels().front();
        if (best.name != std::string("scalar"))  // which rounds a multiply-add twice
            expect(answer.map == map_of(heatmap_of(best, c), c, c.distances), c.name() + "the CPU's map differs");
        expect(answer.maximum == *std::max_element(answer.map.begin(), answer.map.end()), c.name() + "maximum");
    } catch (const std::exception& error) {
        expect(false, c.name() + error.what());
    }
}

// Frames one after the other, by a graph: nothing of a frame, its maximum included, affects the next.
void check_graph() {
    HeatmapCase c{0, {7, 9}, {40, 50}, 2, false, std::vector<double>(63, 9.0), {}, {}, 5};
    const CudaHeatmap heatmap = cuda_heatmap_of(c);
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
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 60);
    if (!random_alone) {
        check_graph();
        check_refusals();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(random_map(i));
    expect(emulated::alive() == 0, std::to_string(emulated::alive()) + " things were never freed");
    return report();
}
