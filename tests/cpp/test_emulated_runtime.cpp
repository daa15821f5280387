// The emulated runtime: memory, streams, graphs and errors behave as CUDA's, and a program that ends within a kernel
// says where.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "expect.hpp"
#include "matcher/cuda/device.cuh"

namespace {

using namespace spadeline;
using emulated::device;

void expect_error(cudaError_t got, cudaError_t wanted, const std::string& what) {
    expect(got == wanted,
           what + ": expected " + cudaGetErrorName(wanted) + ", got " + std::string(cudaGetErrorName(got)));
}

__global__ void add(int* values, int more) { values[threadIdx.x] += more; }

cudaError_t add_all(int* values, int more, cudaStream_t stream) {
    return cuda::launch(add, dim3(1), 32, 0, stream, values, more);
}

void test_memory() {
    size_t free = 0, total = 0;
    int *place = nullptr, *other = nullptr, *pinned = nullptr;
    int host[32] = {};
    expect_error(cudaMalloc(&place, 128), cudaSuccess, "cudaMalloc");
    expect_error(cudaMallocHost(&pinned, 128), cudaSuccess, "cudaMallocHost");
    expect(emulated::allocated_bytes() == 128 && emulated::alive() == 2, "what is allocated");
    expect_error(cudaMemGetInfo(&free, &total), cudaSuccess, "cudaMemGetInfo");
    expect(free == total - 128, "what is free");
    const auto copy = [&](void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
        return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    };
    expect_error(copy(host, place, 128, cudaMemcpyDeviceToHost), cudaSuccess, "copy");
    expect(host[31] == -1, "fresh memory is ones");
    expect_error(copy(pinned, place, 128, cudaMemcpyDefault), cudaSuccess, "copy");
    expect_error(copy(place, host, 128, cudaMemcpyDeviceToHost), cudaErrorInvalidValue, "a copy the wrong way");
    expect_error(copy(host, pinned, 128, cudaMemcpyDeviceToHost), cudaErrorInvalidValue, "a copy from the host");
    expect_error(copy(place + 1, host, 128, cudaMemcpyHostToDevice), cudaErrorInvalidValue, "a copy beyond the end");
    expect_error(cudaMemsetAsync(host, 0, 128, nullptr), cudaErrorInvalidValue, "cudaMemset of the host's");
    expect_error(cudaFreeHost(place), cudaErrorInvalidValue, "cudaFreeHost of the device's");
    expect_error(cudaFree(place + 1), cudaErrorInvalidValue, "cudaFree of the middle");
    device().memory = 256;
    expect_error(cudaMalloc(&other, 129), cudaErrorMemoryAllocation, "more than there is");
    expect(other == nullptr && cudaPeekAtLastError() == cudaErrorMemoryAllocation, "nothing allocated");
    device().failing_allocation = 1;
    expect_error(cudaMalloc(&other, 64), cudaSuccess, "the last that succeeds");
    expect_error(cudaFree(other), cudaSuccess, "cudaFree");
    expect_error(cudaMalloc(&other, 64), cudaErrorMemoryAllocation, "the one that fails");
    expect_error(cudaMalloc(&other, 64), cudaSuccess, "the next one");
    device() = {};
    expect_error(cudaFree(other), cudaSuccess, "cudaFree");
    expect_error(cudaFree(place), cudaSuccess, "cudaFree");
    expect_error(cudaFree(nullptr), cudaSuccess, "cudaFree of nothing");
    expect_error(cudaFreeHost(pinned), cudaSuccess, "cudaFreeHost");
    expect_error(cudaGetLastError(), cudaErrorMemoryAllocation, "the last error");
    expect_error(cudaGetLastError(), cudaSuccess, "it is told once");
    expect(emulated::alive() == 0, "all is freed");
}

// Two streams that run only when they are waited for, with events between them.
void test_deferred_streams() {
    device().deferred = true;
    int *place, *pinned;
    cudaStream_t first, second;
    cudaEvent_t event;
    cudaMalloc(&place, 128);
    cudaMallocHost(&pinned, 128);
    cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    std::vector<int> pageable(32, 5);
    cudaMemcpyAsync(place, pageable.data(), 128, cudaMemcpyHostToDevice, first);
    add_all(place, 2, first);
    cudaEventRecord(event, first);
    add_all(place, 100, first);
    cudaStreamWaitEvent(second, event);
    cudaMemcpyAsync(pinned, place, 128, cudaMemcpyDeviceToHost, second);
    expect(pinned[0] == -1, "nothing ran yet");
    cudaStreamSynchronize(second);
    expect(pinned[0] == 7, "what the event stands for ran, and no more: " + std::to_string(pinned[0]));
    cudaEventSynchronize(event);
    cudaMemcpyAsync(pageable.data(), place, 128, cudaMemcpyDeviceToHost, first);
    expect(pageable[31] == 5, "nothing waits, whatever the memory");
    cudaStreamSynchronize(first);
    expect(pageable[31] == 107, "the sum in memory that isn't pinned");
    std::fill_n(pinned, 32, 1);
    cudaMemcpyAsync(place, pinned, 128, cudaMemcpyHostToDevice, first);
    cudaMemcpyAsync(place + 2, pageable.data(), 4, cudaMemcpyHostToDevice, first);
    pinned[0] = pageable[0] = 9;  // too early
    cudaStreamDestroy(first);
    cudaMemcpyAsync(pageable.data(), place, 128, cudaMemcpyDeviceToHost, second);
    cudaStreamSynchronize(second);
    expect(pageable[0] == 9 && pageable[1] == 1 && pageable[2] == 9,
           "the host's memory is read when a copy's turn comes");
    expect_error(add_all(place, 1, first), cudaErrorInvalidResourceHandle, "a stream that is gone");
    cudaStreamDestroy(second);
    cudaEventDestroy(event);
    cudaFree(place);
    cudaFreeHost(pinned);
    device() = {};
    expect(emulated::alive() == 0, "all is destroyed");
}

// Streams and events belong to the device that the thread uses when they are made.
void test_devices() {
    device().count = 2;
    int current = -1, *place = nullptr;
    cudaStream_t streams[2];
    cudaEvent_t events[2];
    cudaMalloc(&place, 128);
    for (const int d : {1, 0}) {
        expect_error(cudaSetDevice(d), cudaSuccess, "cudaSetDevice");
        cudaStreamCreateWithFlags(&streams[d], cudaStreamNonBlocking);
        cudaEventCreateWithFlags(&events[d], cudaEventDisableTiming);
    }
    expect_error(cudaSetDevice(2), cudaErrorInvalidDevice, "a device that isn't there");
    cudaGetDevice(&current);
    expect(current == 0, "the thread's device");
    expect_error(add_all(place, 1, streams[0]), cudaSuccess, "a launch on its own device");
    expect_error(add_all(place, 1, streams[1]), cudaErrorInvalidResourceHandle, "a launch on another device's stream");
    expect_error(cudaEventRecord(events[0], streams[0]), cudaSuccess, "an event of the stream's device");
    expect_error(cudaEventRecord(events[1], streams[0]), cudaErrorInvalidResourceHandle, "another device's event");
    expect_error(cudaEventRecord(events[0], cudaStreamLegacy), cudaSuccess, "an event of the default stream");
    expect_error(cudaStreamWaitEvent(streams[1], events[0]), cudaSuccess, "streams wait across devices");
    for (const int d : {0, 1}) {
        cudaStreamDestroy(streams[d]);
        cudaEventDestroy(events[d]);
    }
    cudaFree(place);
    device() = {};
    cudaGetLastError();
}

// More than 48 KB of shared memory must be allowed first, and no thread may lower what another one has been allowed.
void test_shared_memory() {
    const auto* kernel = reinterpret_cast<const void*>(add);
    const auto launch = [&](size_t bytes) { return emulated::launch(kernel, 1, 32, bytes, nullptr, [] {}); };
    const auto allow = [&](int bytes) {
        return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    };
    expect_error(launch(48 << 10), cudaSuccess, "what any kernel may have");
    expect_error(launch(49 << 10), cudaErrorInvalidValue, "what wasn't asked for");
    expect_error(allow(60 << 10), cudaSuccess, "asking");
    expect_error(launch(60 << 10), cudaSuccess, "what was asked for");
    expect_error(allow(50 << 10), cudaErrorInvalidValue, "asking for less than before");
    expect_error(allow(100 << 10), cudaErrorInvalidValue, "more than the device has");
    device().shared_memory_per_block = 64 << 10;
    expect_error(cuda::allow_shared_memory(kernel), cudaSuccess, "all that another device has");
    expect_error(launch(64 << 10), cudaSuccess, "all of it");
    device() = {};
    cudaGetLastError();
}

void test_graphs() {
    int* place;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    std::vector<int> values(32, 3);
    cudaMalloc(&place, 128);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMemsetAsync(place, 0, 128, stream);
    expect_error(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess, "capture");
    expect_error(add_all(place, 10, stream), cudaSuccess, "a launch that is captured");
    expect_error(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported, "waiting while capturing");
    void* refused = nullptr;
    expect_error(cudaMalloc(&refused, 8), cudaErrorStreamCaptureUnsupported, "allocating while capturing");
    expect_error(cudaStreamEndCapture(stream, &graph), cudaSuccess, "end of capture");
    cudaMemcpyAsync(values.data(), place, 128, cudaMemcpyDeviceToHost, stream);
    expect(values[0] == 0, "what is captured doesn't run");
    expect_error(cudaGraphInstantiate(&exec, graph), cudaSuccess, "cudaGraphInstantiate");
    for (int i = 0; i < 2; ++i) expect_error(cudaGraphLaunch(exec, stream), cudaSuccess, "cudaGraphLaunch");
    cudaMemcpyAsync(values.data(), place, 128, cudaMemcpyDeviceToHost, stream);
    expect(values[0] == 20, "a graph runs as often as it is launched");
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    cudaFree(place);
    expect(emulated::alive() == 0, "all is destroyed");
}

void test_loss() {
    int count = 0, value = 0, *place = nullptr;
    cudaMalloc(&place, 128);
    device().calls_before_loss = 1;
    expect_error(add_all(place, 1, nullptr), cudaSuccess, "before the loss");
    expect_error(add_all(place, 1, nullptr), cudaErrorLaunchFailure, "the loss");
    expect_error(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure, "after the loss");
    expect_error(cudaFree(place), cudaErrorLaunchFailure, "even freeing");
    expect(emulated::alive() == 0, "which frees all the same");
    device() = {};
    device().missing = cudaErrorInsufficientDriver;
    expect_error(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver, "no driver");
    device() = {};
    device().count = 0;
    expect_error(cudaGetDeviceCount(&count), cudaErrorNoDevice, "no device");
    device() = {};
    device().multiprocessors = 16;
    expect_error(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess, "an attribute");
    expect(value == 16, "the test's number of multiprocessors");
    device() = {};
    cudaGetLastError();
}

__global__ void die(int* values) {
    __syncthreads();
    if (threadIdx.x == 37) {
        if (!values) std::abort();
        values[32] = 1;
    }
}

// What a child writes to stderr before it ends.
std::string last_words(const std::function<void()>& what) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        what();
        _exit(0);
    }
    close(ends[1]);
    std::string words;
    char part[4096];
    for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;) words.append(part, static_cast<size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return words + (WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "survived" : "died");
}

void expect_death(const std::string& words, const std::vector<std::string>& parts) {
    for (const std::string& part : parts)
        expect(words.find(part) != std::string::npos, "expected '" + part + "' in '" + words + "'");
}

void test_deaths() {
    const auto run = [](int* values) { cuda::launch(die, dim3(2), 64, 0, nullptr, values); };
    expect_death(last_words([&] { run(nullptr); }), {"died", "emulated kernel: block (", "thread 37"});
#ifdef __SANITIZE_ADDRESS__
    int* place = nullptr;
    cudaMalloc(&place, 128);
    expect_death(last_words([&] { run(place); }), {"died", "heap-buffer-overflow", "emulated kernel", "thread 37"});
    expect_death(last_words([&] { *place = 1; }), {"died", "use-after-poison"});
    cudaFree(place);
#endif
}

}  // namespace

int main() {
    test_memory();
    test_deferred_streams();
    test_devices();
    test_shared_memory();
    test_graphs();
    test_loss();
    test_deaths();
    return report();
}
