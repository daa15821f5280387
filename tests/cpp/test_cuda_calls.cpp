// What calls of the CUDA matcher promise, on an emulated device: streams that run late, frames captured once and
// launched again, callers on several threads, and a device that lacks memory or is lost halfway. Its numbers are the
// other tests'.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
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

struct Asked {
    int64_t images, kappa;
};

// Five small images; the i-th query asks about the i-th image and those that follow.
Case case_of(const std::vector<Asked>& asked) {
    Random random(1);
    Case c{0,
           PyramidShape({{5, 6, 9, 0}, {16, 3, 5, 1}}),
           5,
           Storage::float32,
           Upsampling::nearest,
           1,
           false,
           {},
           {},
           {},
           {},
           {}};
    const auto& levels = c.shape.levels();
    for (size_t l = 0; l < levels.size(); ++l) {
        c.weights.push_back(1);
        c.gallery.push_back(random_map(random, Values::smooth, levels[l], c.images));
        c.cells.push_back(to_cells(c.shape, static_cast<int64_t>(l), c.gallery[l], c.images));
        c.bases.push_back(random_basis(random, c.cells[l].values, levels[l].channels, l > 0 ? 16 : 0));
    }
    for (const auto& [images, kappa] : asked) {
        Question q{{}, Storage::float32, {}, kappa, -1, {}, {}};
        for (const LevelShape& level : levels) q.query.push_back(random_map(random, Values::smooth, level, 1));
        for (const Map& map : q.query) q.views.push_back({map.data(), q.storage});
        for (int64_t k = 0; k < images; ++k) q.ids.push_back((static_cast<int64_t>(c.questions.size()) + k) % c.images);
        c.questions.push_back(std::move(q));
    }
    return c;
}

void expect_right(const Case& c, const Question& q, const Answer& answer, const std::string& what) {
    const std::string mistake = Naive(c, q).mistake(answer);
    expect(mistake.empty(), what + ": " + mistake);
}

template <class Error, class Throwing>
void expect_thrown(const std::string& what, const Throwing& act) {
    try {
        act();
        expect(false, "expected to be refused: " + what);
    } catch (const Error&) {
    } catch (const std::exception& error) {
        expect(false, what + ": " + error.what());
    }
}

void copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync", "a test");
}

void wait(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test"); }

// A query's levels in memory of one kind.
template <class Memory>
std::vector<Memory> room_for(const Question& q) {
    std::vector<Memory> rooms;
    for (const Map& map : q.query)
        rooms.emplace_back(static_cast<int64_t>(map.values.size() * sizeof(float)), "a test");
    return rooms;
}

std::vector<PinnedMemory> pinned_levels(const Question& q) {
    auto levels = room_for<PinnedMemory>(q);
    for (size_t l = 0; l < levels.size(); ++l)
        std::memcpy(levels[l].data(), q.query[l].values.data(), q.query[l].values.size() * sizeof(float));
    return levels;
}

// A query and its answer on the device, with a stream and a search of their own.
class Frame {
 public:
    Frame(const Case& c, DeviceGallery& gallery, const Question& q)
        : search_(gallery, {static_cast<int64_t>(q.ids.size()), q.kappa}),
          levels_(room_for<DeviceMemory>(q)),
          pixels_(c.shape.levels()[0].height * c.shape.levels()[0].width),
          distances_(pixels_ * static_cast<int64_t>(sizeof(double)), "a test"),
          neighbours_(pixels_ * q.kappa * 3 * static_cast<int64_t>(sizeof(int32_t)), "a test") {
        bring(q);
    }
    void bring(const Question& q) {
        for (size_t l = 0; l < levels_.size(); ++l)
            copy(levels_[l].data(), q.query[l].values.data(), q.query[l].values.size() * sizeof(float), stream);
    }
    void enqueue(const Question& q) {
        std::vector<const void*> levels;
        for (const DeviceMemory& level : levels_) levels.push_back(level.data());
        CudaRequest request;
        request.levels = levels;
        request.image_ids = q.ids;
        request.kappa = q.kappa;
        request.distances = reinterpret_cast<double*>(distances_.data());
        request.neighbours = reinterpret_cast<int32_t*>(neighbours_.data());
        check(search_.enqueue(request, stream), "enqueue", "a test");
    }
    // Of what the stream has come past.
    Answer answer(const Question& q) const {
        Answer answer{std::vector<double>(pixels_), std::vector<int32_t>(pixels_ * q.kappa * 3), search_.statistics()};
        const Stream later;
        copy(answer.distances.data(), distances_.data(), answer.distances.size() * sizeof(double), later);
        copy(answer.neighbours.data(), neighbours_.data(), answer.neighbours.size() * sizeof(int32_t), later);
        return answer;
    }

    const Stream stream;

 private:
    CudaSearch search_;
    std::vector<DeviceMemory> levels_;
    int64_t pixels_;
    DeviceMemory distances_, neighbours_;
};

// All frames are under way before any of them is waited for, and the last one is waited for first. In a cache each
// finds an image where the one before has brought it, and takes the place of another.
void check_streams() {
    const Case c = case_of({{2, 3}, {2, 1}, {2, 2}, {2, 3}, {2, 1}});
    const Codes codes = encode(c, kernels_named("auto"));
    const Gallery images = gallery_of(c, &codes);
    const int64_t image_bytes = DeviceGallery(c.shape, images).image_bytes();
    device().deferred = true;
    for (const int64_t slots : {5, 3, 2}) {
        DeviceGallery gallery(c.shape, images, slots * image_bytes);
        std::vector<std::unique_ptr<Frame>> frames;
        for (const Question& q : c.questions) frames.push_back(std::make_unique<Frame>(c, gallery, q));
        for (int round = 0; round < 2; ++round) {
            for (size_t i = 0; i < frames.size(); ++i) frames[i]->enqueue(c.questions[i]);
            for (size_t i = frames.size(); i-- > 0;) {
                wait(frames[i]->stream);
                expect_right(c, c.questions[i], frames[i]->answer(c.questions[i]),
                             std::to_string(slots) + " slots, stream " + std::to_string(i));
            }
        }
    }
    device() = {};
}

// The graph reads the query's buffers whenever it is launched. A gallery that has to bring images can't be captured.
void check_graph() {
    Case c = case_of({{3, 2}, {3, 2}});
    c.questions[1].ids = c.questions[0].ids;
    const Codes codes = encode(c, kernels_named("auto"));
    DeviceGallery gallery(c.shape, gallery_of(c, &codes)),
        part(c.shape, gallery_of(c, &codes), 4 * gallery.image_bytes());
    for (const bool deferred : {false, true}) {
        device().deferred = deferred;
        Frame frame(c, gallery, c.questions[0]), refused(c, part, c.questions[0]);
        const auto capture = [](const Stream& stream, const auto& act) {
            cudaGraph_t graph = nullptr;
            check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", "a test");
            act();
            check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture", "a test");
            return graph;
        };
        cudaGraph_t graph = capture(frame.stream, [&] { frame.enqueue(c.questions[0]); });
        cudaGraphExec_t exec = nullptr;
        check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate", "a test");
        cudaGraphDestroy(graph);
        for (const size_t i : {0, 1, 0}) {
            frame.bring(c.questions[i]);
            check(cudaGraphLaunch(exec, frame.stream), "cudaGraphLaunch", "a test");
            wait(frame.stream);
            expect_right(c, c.questions[i], frame.answer(c.questions[i]), "launch of query " + std::to_string(i));
        }
        cudaGraphExecDestroy(exec);
        cudaGraphDestroy(capture(refused.stream, [&] {
            expect_thrown<CudaError>("a cache in a graph", [&] { refused.enqueue(c.questions[0]); });
        }));
        refused.enqueue(c.questions[0]);
        wait(refused.stream);
        expect_right(c, c.questions[0], refused.answer(c.questions[0]), "after a refused capture");
    }
    device() = {};
}

Answer match(CudaMatcher& matcher, const Case& c, const Question& q) {
    Answer answer;
    answer.statistics = matcher.match(request_for(c, q, kGuardShare, answer));
    return answer;
}

bool same(const Answer& a, const Answer& b) { return a.distances == b.distances && a.neighbours == b.neighbours; }

// Larger queries after smaller ones, several callers, two matchers; levels and answers in pinned memory, which the
// device reads and writes when it comes to it.
void check_matcher() {
    const Case c = case_of({{1, 1}, {3, 1}, {2, 7}, {5, 32}, {1, 2}});
    const Codes codes = encode(c, kernels_named("auto"));
    CudaMatcher matcher(c.shape, gallery_of(c, &codes), -1), other(c.shape, gallery_of(c, nullptr), -1);
    std::vector<Answer> expected;
    for (const Question& q : c.questions) {
        expected.push_back(match(matcher, c, q));
        expect_right(c, q, expected.back(), "kappa " + std::to_string(q.kappa));
    }
    const auto call = [&](CudaMatcher& some, size_t first) {
        for (size_t i = 0; i < 2 * expected.size(); ++i) {
            const size_t q = (first + i) % expected.size();
            expect(same(match(some, c, c.questions[q]), expected[q]), "one of several callers got another answer");
        }
    };
    std::vector<std::thread> callers;
    for (size_t i = 0; i < 4; ++i) callers.emplace_back(call, std::ref(i < 3 ? matcher : other), i);
    for (std::thread& caller : callers) caller.join();

    device().deferred = true;
    for (size_t i = 0; i < expected.size(); ++i) {
        const Question& q = c.questions[i];
        const std::vector<PinnedMemory> levels = pinned_levels(q);
        std::vector<QueryLevel> views;
        for (const PinnedMemory& level : levels) views.push_back({level.data(), q.storage});
        Answer answer;
        Request request = request_for(c, q, kGuardShare, answer);
        const size_t distances = answer.distances.size() * sizeof(double),
                     neighbours = answer.neighbours.size() * sizeof(int32_t);
        const PinnedMemory pinned(static_cast<int64_t>(distances + neighbours), "a test");
        request.levels = views;
        request.distances = reinterpret_cast<double*>(pinned.data());
        request.neighbours = reinterpret_cast<int32_t*>(pinned.data() + distances);
        matcher.match(request);
        std::memcpy(answer.distances.data(), pinned.data(), distances);
        std::memcpy(answer.neighbours.data(), pinned.data() + distances, neighbours);
        expect(same(answer, expected[i]), "another answer in pinned memory");
    }
    device() = {};
}

// Whatever is refused is named, its answer isn't written, and the matcher is as it was.
void check_refusals() {
    Case c = case_of({{2, 2}, {3, 4}, {1, 3}});
    CudaMatcher matcher(c.shape, gallery_of(c, nullptr),
                        3 * DeviceGallery(c.shape, gallery_of(c, nullptr)).image_bytes());
    std::vector<Answer> answers(3), expected;
    for (const Question& q : c.questions) expected.push_back(match(matcher, c, q));
    std::vector<Statistics> statistics(3);
    const auto match_all = [&] {
        std::vector<Request> requests;
        for (size_t i = 0; i < 3; ++i) requests.push_back(request_for(c, c.questions[i], kGuardShare, answers[i]));
        matcher.match_batch(requests, statistics);
    };
    const auto untouched = [&](const Answer& answer) {
        return answer.distances == std::vector<double>(answer.distances.size(), -1) &&
               answer.neighbours == std::vector<int32_t>(answer.neighbours.size(), -2);
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
    expect(untouched(answers[1]) && untouched(answers[2]), "answers of a bad query and of those after it");
    feature = finite;
    q.views[1].storage = Storage::float16;
    expect_thrown<std::invalid_argument>("levels of two number types", match_all);
    q.views[1].storage = Storage::float32;
    q.ids = {0, 1, 2, 3};
    expect_thrown<TooFewSlots>("more images than the device holds", match_all);
    expect(untouched(answers[1]), "the answer of a refused query");
    q.ids = {1, 2, 3};
    match_all();
    for (size_t i = 0; i < 3; ++i) expect(same(answers[i], expected[i]), "another answer after an error");
}

struct Inspected {
    std::vector<float> map = std::vector<float>(12 * 18, -1);
    std::vector<uint8_t> mask = std::vector<uint8_t>(12 * 18, 2);
    std::vector<int32_t> neighbours;

    bool operator==(const Inspected&) const = default;
};

// Maps twice the distances' size. What a mask spares lies below the map's sixth row, and takes from no row of distances
// above the third.
class Masks {
 public:
    explicit Masks(bool masked) : ignore_(12 * 18), distances_(6 * 9) {
        if (!masked) return;
        std::fill_n(ignore_.begin(), 6 * 18, 1);
        std::fill_n(distances_.begin(), 2 * 9, 1);
    }
    InspectorOptions options(const Question& q, float theta) const {
        return {5, q.kappa, q.window, 12, 18, 1.5, false, theta, ignore_.data(), distances_.data(), kGuardShare};
    }
    void set(Question& q) const { q.ignore = distances_; }

 private:
    std::vector<uint8_t> ignore_, distances_;
};

// The frame comes from a camera's stream, late.
void inspect(CudaInspector& inspector, const Question& q, Inspected& inspected) {
    const Stream camera;
    const auto pinned = pinned_levels(q);
    const auto levels = room_for<DeviceMemory>(q);
    std::vector<const void*> places;
    for (size_t l = 0; l < levels.size(); ++l) {
        copy(levels[l].data(), pinned[l].data(), q.query[l].values.size() * sizeof(float), camera);
        places.push_back(levels[l].data());
    }
    inspector.wait_for(camera);
    inspected.neighbours.assign(6 * 9 * q.kappa * 3, -2);
    inspector.inspect(places, q.storage, q.ids, inspected.map.data(), inspected.mask.data(),
                      inspected.neighbours.data());
}

// What the inspector is to return: the heatmap of what the matcher does.
Inspected inspected_apart(const Answer& answer, const InspectorOptions& options) {
    const CudaHeatmap heatmap({6, 9}, {12, 18}, options.sigma, options.ignore, options.ignored_distances);
    Inspected inspected;
    const Stream stream;
    const DeviceMemory distances(6 * 9 * 8, "a test"), map(12 * 18 * 4, "a test"), mask(12 * 18, "a test"),
        maximum(4, "a test");
    copy(distances.data(), answer.distances.data(), 6 * 9 * 8, stream);
    check(heatmap.enqueue(reinterpret_cast<double*>(distances.data()), options.root, options.theta,
                          reinterpret_cast<float*>(map.data()), reinterpret_cast<uint8_t*>(mask.data()),
                          reinterpret_cast<float*>(maximum.data()), stream),
          "a launch", "a test");
    copy(inspected.map.data(), map.data(), 12 * 18 * 4, stream);
    copy(inspected.mask.data(), mask.data(), 12 * 18, stream);
    inspected.neighbours = answer.neighbours;
    return inspected;
}

void check_inspector() {
    Case c = case_of({{3, 2}, {2, 2}, {5, 2}});
    const Codes codes = encode(c, kernels_named("auto"));
    CudaMatcher matcher(c.shape, gallery_of(c, &codes), -1);
    const auto theta = static_cast<float>(match(matcher, c, c.questions[0]).distances[40]);
    for (const bool masked : {false, true}) {
        const Masks masks(masked);
        const InspectorOptions options = masks.options(c.questions[0], theta);
        CudaInspector inspector(matcher, options);
        for (Question& q : c.questions) {
            masks.set(q);
            const Answer answer = match(matcher, c, q);
            expect_right(c, q, answer, "of the matcher");
            Inspected inspected;
            device().deferred = true;
            inspect(inspector, q, inspected);
            device() = {};
            const Inspected apart = inspected_apart(answer, options);
            expect(inspected == apart, "the inspector's map isn't that of the matcher's distances");
            const auto above = std::count(apart.mask.begin(), apart.mask.end(), 1);
            expect(0 < above && above < 12 * 18, "a mask of one value");
        }
        float& feature = c.questions[0].query[0].values[7];
        const float finite = std::exchange(feature, std::numeric_limits<float>::quiet_NaN());
        Inspected inspected, untouched;
        untouched.neighbours.assign(6 * 9 * 2 * 3, -2);
        expect_thrown<NotFinite>("a frame that isn't finite", [&] { inspect(inspector, c.questions[0], inspected); });
        expect(inspected == untouched, "the outputs of a bad frame");
        feature = finite;
    }
}

// A device that fails at the n-th call, for every n: somebody says so, and nothing is left behind.
void check_failures(int64_t emulated::Device::* countdown, cudaError_t code) {
    Case c = case_of({{3, 2}});
    const Codes codes = encode(c, kernels_named("auto"));
    const Gallery images = gallery_of(c, &codes);
    const int64_t image_bytes = DeviceGallery(c.shape, images).image_bytes();
    const Masks masks(true);
    masks.set(c.questions[0]);
    bool ended = false;
    for (int64_t n = 0; !ended && n < 1000; ++n) {
        device().*countdown = n;
        try {
            CudaMatcher matcher(c.shape, images, 3 * image_bytes);
            match(matcher, c, c.questions[0]);
            CudaInspector inspector(matcher, masks.options(c.questions[0], 1));
            Inspected inspected;
            inspect(inspector, c.questions[0], inspected);
            ended = true;
        } catch (const OutOfDeviceMemory& error) {
            expect(code == error.code && error.wanted > 0 && error.free > 0, error.what());
        } catch (const CudaError& error) {
            expect(error.code == code, error.what());
        } catch (const DeviceError& error) {
            expect(n == 0, error.what());  // no device was there to begin with
        }
        device() = {};
        expect(emulated::alive() == 0, "left behind by a failure after " + std::to_string(n) + " calls");
    }
    expect(ended, "a device that works is said to fail");
}

// A workspace that couldn't grow is made anew by the next call.
void check_growth() {
    const Case c = case_of({{1, 1}, {5, 9}});
    CudaMatcher matcher(c.shape, gallery_of(c, nullptr), -1);
    for (int64_t failing = 0; failing < 3; ++failing) {
        expect_right(c, c.questions[0], match(matcher, c, c.questions[0]), "after an allocation that failed");
        device().failing_allocation = failing;
        expect_thrown<CudaError>("growing without memory", [&] { match(matcher, c, c.questions[1]); });
        device() = {};
    }
    for (const Question& q : c.questions) expect_right(c, q, match(matcher, c, q), "once there is memory again");
}

}  // namespace

int main() {
    check_streams();
    check_graph();
    check_matcher();
    check_refusals();
    check_inspector();
    check_growth();
    expect(emulated::alive() == 0, "things were never freed");
    check_failures(&emulated::Device::calls_before_loss, cudaErrorLaunchFailure);
    check_failures(&emulated::Device::failing_allocation, cudaErrorMemoryAllocation);
    return report();
}
