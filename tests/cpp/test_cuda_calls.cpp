// Calls of the CUDA matcher on an emulated device: streams that run late, frames that are captured once and launched
// again, callers on several threads, and a device that lacks memory.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/calls.hpp"

using namespace spadeline;
using namespace spadeline::cuda;
using emulated::device;

namespace {

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

}  // namespace

int main() {
    check_streams();
    check_graph();
    check_matcher();
    check_refusals();
    check_growth();
    expect(emulated::alive() == 0, "things that were never freed");
    return report();
}
