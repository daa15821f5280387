// The emulated device's memory: the heap, and a register of what was allocated where.
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "emulated_internal.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(place, bytes) (static_cast<void>(place), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(place, bytes) (static_cast<void>(place), static_cast<void>(bytes))
#endif

namespace emulated {
namespace {

enum class Kind { pageable, pinned, device };

struct Allocation {
    size_t bytes;
    Kind kind;
};

std::mutex mutex;
std::map<void*, Allocation> allocations;
size_t bytes_on_device = 0;
int64_t handles = 0;
int accesses = 0;

cudaError_t allocate(void** place, size_t bytes, Kind kind) {
    if (const cudaError_t error = begin()) return error;
    if (capturing()) return done(cudaErrorStreamCaptureUnsupported);
    const std::lock_guard lock(mutex);
    *place = nullptr;
    if (bytes == 0) return cudaSuccess;
    int64_t& failing = device().failing_allocation;
    const bool fails = failing == 0;
    if (failing >= 0) --failing;
    const bool full = kind == Kind::device && bytes > device().memory - bytes_on_device;
    if (fails || full || posix_memalign(place, 256, bytes) != 0) return done(cudaErrorMemoryAllocation);
    std::memset(*place, 0xff, bytes);  // floats that are read before they are written are NaN
    allocations[*place] = {bytes, kind};
    if (kind == Kind::device) {
        bytes_on_device += bytes;
        if (!accesses) ASAN_POISON_MEMORY_REGION(*place, bytes);
    }
    return cudaSuccess;
}

cudaError_t release(void* place, Kind kind) {
    const cudaError_t error = begin();
    if (!place) return error;
    if (capturing()) return done(cudaErrorStreamCaptureUnsupported);
    finish_all();
    const std::lock_guard lock(mutex);
    const auto at = allocations.find(place);
    if (at == allocations.end() || at->second.kind != kind) return done(cudaErrorInvalidValue);
    if (kind == Kind::device) {
        bytes_on_device -= at->second.bytes;
        ASAN_UNPOISON_MEMORY_REGION(place, at->second.bytes);
    }
    allocations.erase(at);
    std::free(place);
    return error;
}

// Tells what kind of memory these bytes are. Returns false if they go beyond what was allocated.
bool find(const void* place, size_t bytes, Kind& kind) {
    const std::lock_guard lock(mutex);
    kind = Kind::pageable;
    auto after = allocations.upper_bound(const_cast<void*>(place));
    if (after == allocations.begin()) return true;
    const auto& [start, allocation] = *--after;
    const size_t from = static_cast<const std::byte*>(place) - static_cast<const std::byte*>(start);
    if (from >= allocation.bytes) return true;
    kind = allocation.kind;
    return bytes <= allocation.bytes - from;
}

}  // namespace

Access::Access() {
    const std::lock_guard lock(mutex);
    if (accesses++) return;
    for (const auto& [place, allocation] : allocations)
        if (allocation.kind == Kind::device) ASAN_UNPOISON_MEMORY_REGION(place, allocation.bytes);
}

Access::~Access() {
    const std::lock_guard lock(mutex);
    if (--accesses) return;
    for (const auto& [place, allocation] : allocations)
        if (allocation.kind == Kind::device) ASAN_POISON_MEMORY_REGION(place, allocation.bytes);
}

size_t allocated_bytes() {
    const std::lock_guard lock(mutex);
    return bytes_on_device;
}

int64_t alive() {
    const std::lock_guard lock(mutex);
    return static_cast<int64_t>(allocations.size()) + handles;
}

void count_handles(int more) {
    const std::lock_guard lock(mutex);
    handles += more;
}

}  // namespace emulated

using emulated::Access, emulated::Kind;

cudaError_t cudaMalloc(void** place, size_t bytes) { return emulated::allocate(place, bytes, Kind::device); }
cudaError_t cudaFree(void* place) { return emulated::release(place, Kind::device); }
cudaError_t cudaMallocHost(void** place, size_t bytes) { return emulated::allocate(place, bytes, Kind::pinned); }
cudaError_t cudaFreeHost(void* place) { return emulated::release(place, Kind::pinned); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    if (const cudaError_t error = emulated::begin()) return error;
    if (bytes == 0) return cudaSuccess;
    Kind target, source;
    const bool within = emulated::find(to, bytes, target) & emulated::find(from, bytes, source);
    const auto fits = [&](cudaMemcpyKind to_device, cudaMemcpyKind and_from, Kind place) {
        return kind == cudaMemcpyDefault || (kind == to_device || kind == and_from) == (place == Kind::device);
    };
    if (!within || !fits(cudaMemcpyHostToDevice, cudaMemcpyDeviceToDevice, target) ||
        !fits(cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, source))
        return emulated::done(cudaErrorInvalidValue);
    return emulated::enqueue(stream, [=] {
        const Access access;
        std::memcpy(to, from, bytes);
    });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
    if (width > to_pitch || width > from_pitch) return emulated::done(cudaErrorInvalidPitchValue);
    for (size_t row = 0; row < rows; ++row) {
        const cudaError_t error =
            cudaMemcpyAsync(static_cast<std::byte*>(to) + row * to_pitch,
                            static_cast<const std::byte*>(from) + row * from_pitch, width, kind, stream);
        if (error) return error;
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* place, int byte, size_t bytes, cudaStream_t stream) {
    if (const cudaError_t error = emulated::begin()) return error;
    if (bytes == 0) return cudaSuccess;
    Kind kind;
    if (!emulated::find(place, bytes, kind) || kind != Kind::device) return emulated::done(cudaErrorInvalidValue);
    return emulated::enqueue(stream, [=] {
        const Access access;
        std::memset(place, byte, bytes);
    });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    if (const cudaError_t error = emulated::begin()) return error;
    *total = emulated::device().memory;
    *free = *total - emulated::allocated_bytes();
    return cudaSuccess;
}
