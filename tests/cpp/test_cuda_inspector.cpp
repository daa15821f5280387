// The CUDA inspector on an emulated device: its maps and its copies of frames, a caller that has chosen another device,
// and a device that lacks memory or is lost halfway.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/calls.hpp"

using namespace spadeline;
using namespace spadeline::cuda;
using emulated::device;

namespace {

constexpr int64_t kMapPixels = 12 * 18;

// Maps twice the distances' size. Ignored are the map's upper half, and the distances that no other row takes from.
struct Masks {
    explicit Masks(bool masked) {
        std::fill_n(map.begin(), masked * kMapPixels / 2, uint8_t{1});
        std::fill_n(distances.begin(), masked * kPixels / 3, uint8_t{1});
    }
    InspectorOptions options(int64_t kappa, float theta, int64_t images = 5) const {
        return {images, kappa, {}, 12, 18, 1.5, true, theta, map.data(), distances.data()};
    }

    std::vector<uint8_t> map = std::vector<uint8_t>(kMapPixels), distances = std::vector<uint8_t>(kPixels);
};

struct Inspected {
    std::vector<float> map = std::vector<float>(kMapPixels, -1);
    std::vector<uint8_t> mask = std::vector<uint8_t>(kMapPixels, 2);
    std::vector<int32_t> neighbours;

    bool operator==(const Inspected&) const = default;
};

// Inspects a frame that comes late, from a camera's stream.
void inspect(CudaInspector& inspector, const Question& q, Inspected& inspected) {
    const Stream camera;
    const Buffers taken(q), frame(q);
    std::fill_n(frame.memory.data(), Buffers::kBytes, std::byte{0xff});
    check(cudaMemcpyAsync(frame.memory.data(), taken.memory.data(), Buffers::kBytes, cudaMemcpyDefault, camera),
          "cudaMemcpyAsync", kPurpose);
    inspector.wait_for(camera);
    inspected.neighbours.assign(frame.numbers, -2);
    inspector.inspect(frame.levels, q.storage, q.ids, inspected.map.data(), inspected.mask.data(),
                      inspected.neighbours.data());
}

// A camera's frame whose rows have gaps is copied to the host without them, after the camera's stream has written it.
void check_fetch(CudaInspector& inspector) {
    constexpr int64_t kRows = 3, kRowBytes = 7, kPitch = 16;
    const Stream camera;
    const PinnedMemory written(kRows * kPitch, kPurpose);
    const DeviceMemory frame(kRows * kPitch, kPurpose);
    for (int64_t i = 0; i < kRows * kPitch; ++i) written.data()[i] = static_cast<std::byte>(i);
    device().deferred = true;
    check(cudaMemcpyAsync(frame.data(), written.data(), kRows * kPitch, cudaMemcpyDefault, camera), "cudaMemcpyAsync",
          kPurpose);
    inspector.wait_for(camera);
    std::vector<uint8_t> pixels(kRows * kRowBytes + 1, 255);
    inspector.fetch(frame.data(), kPitch, kRows, kRowBytes, pixels.data());
    device() = {};
    for (int64_t i = 0; i < kRows * kRowBytes; ++i)
        expect(pixels[i] == i / kRowBytes * kPitch + i % kRowBytes, "pixel " + std::to_string(i) + " of a frame");
    expect(pixels.back() == 255, "what lies behind a frame");
    expect_thrown<CudaError>("rows that overlap",
                             [&] { inspector.fetch(frame.data(), 4, kRows, kRowBytes, pixels.data()); });
}

// The inspector's expected result: the heatmap of the matcher's distances.
Inspected inspected_apart(const Answer& answer, const InspectorOptions& options) {
    const CudaHeatmap heatmap({6, 9}, {12, 18}, options.sigma, options.ignore, options.ignored_distances);
    const PinnedMemory memory(8 << 10, kPurpose);
    Layout layout(memory.data());
    auto* distances = layout.take<double>(kPixels);
    auto* map = layout.take<float>(kMapPixels);
    auto* mask = layout.take<uint8_t>(kMapPixels);
    std::ranges::copy(answer.distances, distances);
    const Stream stream;
    check(heatmap.enqueue(distances, options.root, options.theta, map, mask, layout.take<float>(1), stream), "a launch",
          kPurpose);
    wait(stream);
    return {{map, map + kMapPixels}, {mask, mask + kMapPixels}, answer.neighbours};
}

void check_inspector() {
    Calls c({{3, 2}, {2, 2}, {5, 2}});
    CudaMatcher matcher(c.shape, c.host());
    for (const bool masked : {false, true}) {
        const Masks masks(masked);
        const InspectorOptions options = masks.options(2, 3);
        CudaInspector inspector(matcher, options);
        check_fetch(inspector);
        Inspected inspected;
        for (Question& q : c.questions) {
            q.ignore = masks.distances;
            const Answer answer = match(matcher, c, q);
            expect_right(c, q, answer, "of the matcher");
            device().deferred = true;
            inspect(inspector, q, inspected);
            device() = {};
            expect(inspected == inspected_apart(answer, options), "the map isn't that of the matcher's distances");
        }
        float& feature = c.questions[0].query[0].values[7];
        const float finite = std::exchange(feature, std::numeric_limits<float>::infinity());
        inspected = {};
        expect_thrown<NotFinite>("a frame that isn't finite", [&] { inspect(inspector, c.questions[0], inspected); });
        expect(std::ranges::count(inspected.map, -1) == kMapPixels &&
                   std::ranges::count(inspected.mask, 2) == kMapPixels &&
                   std::ranges::count(inspected.neighbours, -2) == std::ssize(inspected.neighbours),
               "outputs of a bad frame");
        feature = finite;
    }
    CudaMatcher small(c.shape, c.host(), 3 * c.image_bytes());
    expect_thrown<TooFewSlots>("frames of more images than the device holds",
                               [&] { CudaInspector(small, Masks(false).options(2, 3, 4)); });
}

// The caller has chosen another device for itself, and still has it after each call.
void check_devices() {
    const Calls c({{3, 2}, {5, 9}});
    const Question& q = c.questions[0];
    device().count = 2;
    check(cudaSetDevice(1), "cudaSetDevice", kPurpose);
    CudaMatcher matcher(c.shape, c.host(), 3 * c.image_bytes());
    CudaInspector inspector(matcher, Masks(false).options(2, 3, 3));
    const Buffers frame(q);
    const auto inspected = [&] {
        Inspected result;
        result.neighbours.resize(frame.numbers);
        inspector.inspect(frame.levels, q.storage, q.ids, result.map.data(), result.mask.data(),
                          result.neighbours.data());
        return result;
    };
    const Answer answer = match(matcher, c, q);
    const Inspected here = inspected();
    expect_right(c, q, answer, "from another device");
    std::thread([&] {
        expect(same(match(matcher, c, q), answer) && inspected() == here, "from a thread that has the first device");
    }).join();
    const Stream camera;
    expect_thrown<CudaError>("a frame that another device writes", [&] { inspector.wait_for(camera); });
    int chosen = 0;
    check(cudaGetDevice(&chosen), "cudaGetDevice", kPurpose);
    expect(chosen == 1, "the caller's device");
    check(cudaSetDevice(0), "cudaSetDevice", kPurpose);
    device() = {};
}

// The device fails at the n-th call of a kind, for every n: an error says so, and nothing leaks.
void check_failures(int64_t emulated::Device::* countdown, cudaError_t code) {
    Calls c({{2, 2}});
    const Masks masks(true);
    const int64_t limit = 3 * c.image_bytes();
    bool ended = false;
    int64_t n = 0;
    for (; !ended && n < 1000; ++n) {
        device().*countdown = n;
        try {
            CudaMatcher matcher(c.shape, c.host(), limit);
            match(matcher, c, c.questions[0]);
            CudaInspector inspector(matcher, masks.options(2, 1, 3));
            Inspected inspected;
            inspect(inspector, c.questions[0], inspected);
            ended = true;
        } catch (const OutOfDeviceMemory& error) {
            expect(error.code == code && error.wanted > 0 && error.free > 0, error.what());
        } catch (const CudaError& error) {
            expect(error.code == code, error.what());
        } catch (const DeviceError& error) {
            expect(n == 0, error.what());  // no device was found to begin with
        }
        device() = {};
        expect(emulated::alive() == 0, "left behind by a failure after " + std::to_string(n) + " calls");
    }
    expect(ended && n > 8, "a device that works is said to fail, or one that fails to work");
}

}  // namespace

int main() {
    check_inspector();
    check_devices();
    expect(emulated::alive() == 0, "things that were never freed");
    check_failures(&emulated::Device::calls_before_loss, cudaErrorLaunchFailure);
    check_failures(&emulated::Device::failing_allocation, cudaErrorMemoryAllocation);
    return report();
}
