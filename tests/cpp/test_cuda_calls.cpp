// Calls of the CUDA matcher on an emulated device: streams that run late, frames that are captured once and launched
// again, callers on several threads, and a device that lacks memory or is lost halfway.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "expect.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/inspector.hpp"
#include "naive.hpp"

using namespace spadeline;
using namespace spadeline::cuda;
using emulated::device;

namespace {

constexpr char kPurpose[] = "a test";
constexpr int64_t kPixels = 6 * 9, kMapPixels = 12 * 18;

// Five small images. `asked` has each query's number of images and its kappa; the i-th query's images begin with the
// i-th.
struct Calls : Case {
    using Asked = std::vector<std::pair<int64_t, int64_t>>;
    explicit Calls(const Asked& asked)
        : Case{0,
               PyramidShape(6, 9, {{5, 0}, {16, 1}}),
               5,
               Storage::float32,
               Upsampling::nearest,
               1,
               false,
               {},
               {},
               {},
               {},
               {}} {
        Random random(1);
        const auto& levels = shape.levels();
        for (int64_t l = 0; l < 2; ++l) {
            weights.push_back(1);
            gallery.push_back(random_map(random, Values::smooth, levels[l], images));
            cells.push_back(to_cells(shape, l, gallery[l], images));
            bases.push_back(random_basis(random, cells[l].values, levels[l].channels, 16 * l));
        }
        for (const auto& [count, kappa] : asked) {
            Question q{{}, Storage::float32, {}, kappa, {}, {}, {}};
            for (const LevelShape& level : levels) q.query.push_back(random_map(random, Values::smooth, level, 1));
            for (const Map& map : q.query) q.views.push_back({map.data(), q.storage});
            const int64_t first = std::ssize(questions);
            for (int64_t id = first; id < first + count; ++id) q.ids.push_back(id % images);
            questions.push_back(std::move(q));
        }
        codes = encode(*this, kernels_named("auto"));
    }
    Gallery host() const { return gallery_of(*this, &codes); }
    int64_t image_bytes() const { return DeviceGallery(shape, host()).image_bytes(); }

    Codes codes;
};

void expect_right(const Case& c, const Question& q, const Answer& answer, const std::string& what) {
    const std::string mistake = Naive(c, q).mistake(answer);
    expect(mistake.empty(), what + ": " + mistake);
}

void wait(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose); }

// A query and its answer in pinned memory, which the device reads and writes when the stream comes to it.
struct Buffers {
    explicit Buffers(const Question& q) : numbers(kPixels * q.kappa * 3) {
        Layout layout(memory.data());
        for (size_t l = 0; l < 2; ++l) levels[l] = layout.take<float>(std::ssize(q.query[l].values));
        distances = layout.take<double>(kPixels);
        neighbours = layout.take<int32_t>(numbers);
        bring(q);
    }
    void bring(const Question& q) {
        for (size_t l = 0; l < 2; ++l) std::ranges::copy(q.query[l].values, static_cast<float*>(levels[l]));
    }
    Answer answer(Statistics statistics) const {
        return {{distances, distances + kPixels}, {neighbours, neighbours + numbers}, statistics};
    }

    static constexpr int64_t kBytes = 32 << 10;
    const PinnedMemory memory{kBytes, kPurpose};
    const int64_t numbers;
    void* levels[2];
    double* distances;
    int32_t* neighbours;
};

// A search with a stream and buffers of its own.
struct Frame {
    Frame(DeviceGallery& gallery, const Question& q) : search(gallery, {std::ssize(q.ids), q.kappa}), buffers(q) {}
    void enqueue(const Question& q) {
        const CudaRequest request{buffers.levels,    q.storage,          q.ids,      q.kappa, q.window, nullptr,
                                  buffers.distances, buffers.neighbours, kGuardShare};
        check(search.enqueue(request, stream), "enqueue", kPurpose);
    }
    Answer answer() const {
        wait(stream);
        return buffers.answer(search.statistics());
    }

    const Stream stream;
    CudaSearch search;
    Buffers buffers;
};

// All queries are started before any is waited for, and the last one is waited for first. In a cache each query finds
// an image that the one before brought, and replaces another image.
void check_streams() {
    const Calls c({{2, 3}, {2, 1}, {2, 2}, {2, 3}, {2, 1}});
    const int64_t image_bytes = c.image_bytes();
    device().deferred = true;
    for (const int64_t slots : {5, 3, 2}) {
        DeviceGallery gallery(c.shape, c.host(), slots * image_bytes);
        std::vector<std::unique_ptr<Frame>> frames;
        for (const Question& q : c.questions) frames.push_back(std::make_unique<Frame>(gallery, q));
        for (size_t i = 0; i < frames.size(); ++i) frames[i]->enqueue(c.questions[i]);
        for (size_t i = frames.size(); i-- > 0;)
            expect_right(c, c.questions[i], frames[i]->answer(),
                         std::to_string(slots) + " slots, stream " + std::to_string(i));
    }
    device() = {};
}

template <class Act>
cudaGraph_t capture(cudaStream_t stream, const Act& act) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", kPurpose);
    act();
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture", kPurpose);
    return graph;
}

// A graph reads the query's buffers each time it is launched. A gallery that must bring images can't be captured.
void check_graph() {
    const Calls c({{5, 2}, {5, 2}});
    const Question &first = c.questions[0], &second = c.questions[1];
    DeviceGallery gallery(c.shape, c.host());
    Frame frame(gallery, first);
    cudaGraph_t graph = capture(frame.stream, [&] { frame.enqueue(first); });
    cudaGraphExec_t exec = nullptr;
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate", kPurpose);
    cudaGraphDestroy(graph);
    for (const Question* q : {&second, &first}) {
        frame.buffers.bring(*q);
        check(cudaGraphLaunch(exec, frame.stream), "cudaGraphLaunch", kPurpose);
        expect_right(c, *q, frame.answer(), "a graph");
    }
    cudaGraphExecDestroy(exec);

    const Calls few({{2, 2}});
    DeviceGallery part(few.shape, few.host(), 4 * gallery.image_bytes());
    Frame refused(part, few.questions[0]);
    const auto enqueue = [&] { refused.enqueue(few.questions[0]); };
    cudaGraphDestroy(capture(refused.stream, [&] { expect_thrown<CudaError>("a cache in a graph", enqueue); }));
    enqueue();
    expect_right(few, few.questions[0], refused.answer(), "after a refused capture");
}

Answer match(CudaMatcher& matcher, const Case& c, const Question& q) {
    Answer answer;
    answer.statistics = matcher.match(request_for(c, q, kGuardShare, answer));
    return answer;
}

bool same(const Answer& a, const Answer& b) { return a.distances == b.distances && a.neighbours == b.neighbours; }

// Larger queries after smaller ones; several callers and two matchers; memory that the device reads and writes late.
void check_matcher() {
    const Calls c({{1, 1}, {3, 1}, {2, 7}, {5, 32}, {1, 2}});
    CudaMatcher matcher(c.shape, c.host()), other(c.shape, gallery_of(c, nullptr));
    std::vector<Answer> expected;
    for (const Question& q : c.questions) {
        expected.push_back(match(matcher, c, q));
        expect_right(c, q, expected.back(), "kappa " + std::to_string(q.kappa));
    }
    std::vector<std::thread> callers;
    for (size_t first = 0; first < 4; ++first)
        callers.emplace_back([&, first] {
            for (size_t i = first; i < first + 2 * expected.size(); ++i) {
                const size_t q = i % expected.size();
                expect(same(match(first < 3 ? matcher : other, c, c.questions[q]), expected[q]),
                       "one of several callers got another answer");
            }
        });
    for (std::thread& caller : callers) caller.join();

    device().deferred = true;
    for (size_t i = 0; i < expected.size(); ++i) {
        const Question& q = c.questions[i];
        const Buffers buffers(q);
        const QueryLevel views[2] = {{buffers.levels[0], q.storage}, {buffers.levels[1], q.storage}};
        const Request request{views,      q.ids, q.kappa, q.window, nullptr, buffers.distances, buffers.neighbours,
                              kGuardShare};
        const Statistics statistics = matcher.match(request);
        expect(same(buffers.answer(statistics), expected[i]), "another answer in pinned memory");
    }
    device() = {};
}

// An error names what is refused. The answer isn't written, and the matcher works as before.
void check_refusals() {
    Calls c({{2, 2}, {3, 4}, {1, 3}});
    CudaMatcher matcher(c.shape, c.host(), 3 * c.image_bytes());
    std::vector<Answer> answers(3), expected;
    for (const Question& q : c.questions) expected.push_back(match(matcher, c, q));
    const auto match_all = [&] {
        std::vector<Request> requests;
        for (size_t i = 0; i < 3; ++i) requests.push_back(request_for(c, c.questions[i], kGuardShare, answers[i]));
        std::vector<Statistics> statistics(3);
        matcher.match_batch(requests, statistics);
    };
    const auto untouched = [&](const Answer& answer) {
        return std::ranges::count(answer.distances, -1) == kPixels &&
               std::ranges::count(answer.neighbours, -2) == std::ssize(answer.neighbours);
    };
    Question& q = c.questions[1];
    float& feature = q.query[1].values[(9 * 3 + 2) * 5 + 1];
    const float finite = std::exchange(feature, std::numeric_limits<float>::infinity());
    try {
        match_all();
        expect(false, "a feature that isn't finite was matched");
    } catch (const NotFinite& bad) {
        expect(bad.query == 1 && bad.level == 1 && bad.channel == 9 && bad.y == 2 && bad.x == 1, "another bad feature");
    }
    expect(same(answers[0], expected[0]), "the query before the bad one");
    expect(untouched(answers[1]) && untouched(answers[2]), "answers of a bad query and of the one after it");
    feature = finite;
    q.views[1].storage = Storage::float16;
    expect_thrown<std::invalid_argument>("levels of two number types", match_all);
    q.views[1].storage = Storage::float32;
    const auto ids = std::exchange(q.ids, {0, 1, 2, 3});
    expect_thrown<TooFewSlots>("more images than the device holds", match_all);
    expect(untouched(answers[1]), "the answer of a refused query");
    q.ids = ids;
    match_all();
    for (size_t i = 0; i < 3; ++i) expect(same(answers[i], expected[i]), "another answer after a refusal");
}

// If a workspace can't grow, the next call makes it anew.
void check_growth() {
    const Calls c({{1, 1}, {5, 9}});
    CudaMatcher matcher(c.shape, c.host());
    for (int64_t failing = 0; failing < 3; ++failing) {
        match(matcher, c, c.questions[0]);
        device().failing_allocation = failing;
        expect_thrown<CudaError>("growing without memory", [&] { match(matcher, c, c.questions[1]); });
        device() = {};
        expect_right(c, c.questions[0], match(matcher, c, c.questions[0]), "after an allocation that failed");
    }
    expect_right(c, c.questions[1], match(matcher, c, c.questions[1]), "once there is memory again");
}

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
    check_streams();
    check_graph();
    check_matcher();
    check_refusals();
    check_growth();
    check_inspector();
    check_devices();
    expect(emulated::alive() == 0, "things that were never freed");
    check_failures(&emulated::Device::calls_before_loss, cudaErrorLaunchFailure);
    check_failures(&emulated::Device::failing_allocation, cudaErrorMemoryAllocation);
    return report();
}
