// Emulated streams, events and graphs: queues of work.
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "emulated_internal.hpp"

namespace emulated {

using Work = std::function<void()>;

struct Queue {
    std::deque<Work> waiting;
    int64_t queued = 0, started = 0;

    void run_to(int64_t position) {
        while (started < position && !waiting.empty()) {
            const Work work = std::move(waiting.front());
            waiting.pop_front();
            ++started;
            work();
        }
    }
};

}  // namespace emulated

using emulated::Queue, emulated::Work;

struct EmulatedGraph {
    std::vector<Work> works;
};

struct EmulatedGraphExec {
    std::vector<Work> works;
};

struct EmulatedStream {
    int device = emulated::current_device();
    std::shared_ptr<Queue> queue = std::make_shared<Queue>();
    std::unique_ptr<EmulatedGraph> graph;  // the graph that is being captured
};

struct EmulatedEvent {
    int device = emulated::current_device();
    std::shared_ptr<Queue> queue;
    int64_t position = 0;
};

namespace emulated {
namespace {

std::mutex mutex;
std::set<EmulatedStream*> streams;
std::set<EmulatedEvent*> events;

bool known(cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    return !stream || streams.contains(stream);
}

bool known(cudaEvent_t event) {
    const std::lock_guard lock(mutex);
    return events.contains(event);
}

int device_of(cudaStream_t stream) { return stream ? stream->device : current_device(); }

bool captures(cudaStream_t stream) { return stream && stream->graph; }

}  // namespace

bool capturing() {
    const std::lock_guard lock(mutex);
    for (const EmulatedStream* stream : streams)
        if (stream->graph) return true;
    return false;
}

void finish_all() {
    std::vector<std::shared_ptr<Queue>> queues;
    {
        const std::lock_guard lock(mutex);
        for (const EmulatedStream* stream : streams) queues.push_back(stream->queue);
    }
    for (const auto& queue : queues) queue->run_to(queue->queued);
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
    if (!known(stream)) return done(cudaErrorInvalidResourceHandle);
    if (captures(stream)) {
        stream->graph->works.push_back(std::move(work));
    } else if (stream && device().deferred) {
        stream->queue->waiting.push_back(std::move(work));
        ++stream->queue->queued;
    } else {
        work();
    }
    return cudaSuccess;
}

cudaError_t launch(const void* kernel, dim3 grid, unsigned threads, size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> thread) {
    if (const cudaError_t error = begin()) return error;
    if (!known(stream) || device_of(stream) != current_device()) return done(cudaErrorInvalidResourceHandle);
    if (threads == 0 || threads % 32 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff)
        return done(cudaErrorInvalidConfiguration);
    if (shared_bytes > static_cast<size_t>(allowed_shared_memory(kernel))) return done(cudaErrorInvalidValue);
    return enqueue(stream, [=, thread = std::move(thread)] {
        const Access access;
        run(grid, threads, shared_bytes, thread);
    });
}

}  // namespace emulated

using emulated::begin, emulated::done, emulated::mutex;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    if (const cudaError_t error = begin()) return error;
    *stream = new EmulatedStream;
    emulated::count_handles(1);
    const std::lock_guard lock(mutex);
    emulated::streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const cudaError_t error = begin();
    if (!stream || !emulated::known(stream)) return done(cudaErrorInvalidResourceHandle);
    stream->queue->run_to(stream->queue->queued);
    emulated::count_handles(-1);
    const std::lock_guard lock(mutex);
    emulated::streams.erase(stream);
    delete stream;
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (const cudaError_t error = begin()) return error;
    if (!emulated::known(stream)) return done(cudaErrorInvalidResourceHandle);
    if (emulated::captures(stream)) return done(cudaErrorStreamCaptureUnsupported);
    if (stream) stream->queue->run_to(stream->queue->queued);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    if (const cudaError_t error = begin()) return error;
    *event = new EmulatedEvent;
    emulated::count_handles(1);
    const std::lock_guard lock(mutex);
    emulated::events.insert(*event);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const cudaError_t error = begin();
    if (!emulated::known(event)) return done(cudaErrorInvalidResourceHandle);
    emulated::count_handles(-1);
    const std::lock_guard lock(mutex);
    emulated::events.erase(event);
    delete event;
    return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (const cudaError_t error = begin()) return error;
    if (stream == cudaStreamLegacy) stream = nullptr;
    if (!emulated::known(event) || !emulated::known(stream) || event->device != emulated::device_of(stream))
        return done(cudaErrorInvalidResourceHandle);
    if (emulated::captures(stream))
        return done(cudaErrorStreamCaptureUnsupported);  // the matcher captures from one stream only
    event->queue = stream ? stream->queue : nullptr;
    event->position = stream ? stream->queue->queued : 0;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (const cudaError_t error = begin()) return error;
    if (!emulated::known(event)) return done(cudaErrorInvalidResourceHandle);
    if (event->queue) event->queue->run_to(event->position);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (const cudaError_t error = begin()) return error;
    if (!emulated::known(event)) return done(cudaErrorInvalidResourceHandle);
    if (emulated::captures(stream)) return done(cudaErrorStreamCaptureUnsupported);
    return emulated::enqueue(stream, [queue = event->queue, position = event->position] {
        if (queue) queue->run_to(position);
    });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (const cudaError_t error = begin()) return error;
    if (!stream || emulated::captures(stream)) return done(cudaErrorStreamCaptureUnsupported);
    stream->graph = std::make_unique<EmulatedGraph>();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    if (const cudaError_t error = begin()) return error;
    if (!emulated::captures(stream)) return done(cudaErrorInvalidValue);
    *graph = stream->graph.release();
    emulated::count_handles(1);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    if (const cudaError_t error = begin()) return error;
    *exec = new EmulatedGraphExec{graph->works};
    emulated::count_handles(1);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    if (const cudaError_t error = begin()) return error;
    for (const Work& work : exec->works)
        if (const cudaError_t error = emulated::enqueue(stream, work)) return error;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    emulated::count_handles(-1);
    return begin();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    emulated::count_handles(-1);
    return begin();
}
