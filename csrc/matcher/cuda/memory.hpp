// Memory of the device and pinned memory of the host, which their owner frees; and CUDA's errors as exceptions.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "matcher/arithmetic.hpp"
#include "matcher/cuda/device.cuh"
#include "matcher/device_error.hpp"
#include "matcher/sizes.hpp"

namespace spadeline::cuda {

// A call that failed, and what it was for.
struct CudaError : DeviceError {
    CudaError(cudaError_t error, const std::string& call, const std::string& purpose)
        : DeviceError("cuda: " + call + " failed, for " + purpose + ": " + cudaGetErrorString(error) + " (" +
                      cudaGetErrorName(error) + ")"),
          code(error) {}

    cudaError_t code;

 protected:
    CudaError(cudaError_t error, const std::string& text) : DeviceError(text), code(error) {}
};

struct OutOfDeviceMemory : CudaError {
    OutOfDeviceMemory(int64_t wanted_bytes, int64_t free_bytes, const std::string& purpose)
        : CudaError(cudaErrorMemoryAllocation, "cuda: expected " + std::to_string(wanted_bytes) +
                                                   " bytes of device memory for " + purpose + ", got " +
                                                   std::to_string(free_bytes) + " free"),
          wanted(wanted_bytes),
          free(free_bytes) {}

    int64_t wanted, free;
};

inline void check(cudaError_t error, const char* call, const char* purpose) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // else a later call would report it
    throw CudaError(error, call, purpose);
}

// While this object lives, the calling thread uses the first device, to which streams and memory belong: the caller may
// have chosen another device for its own work. It also computes in StandardArithmetic, for scales and weights.
class OnFirstDevice {
 public:
    OnFirstDevice() {
        check(cudaGetDevice(&chosen_), "cudaGetDevice", "the caller's device");
        if (chosen_ != 0) check(cudaSetDevice(0), "cudaSetDevice", "the first device");
    }
    OnFirstDevice(const OnFirstDevice&) = delete;
    OnFirstDevice& operator=(const OnFirstDevice&) = delete;
    ~OnFirstDevice() {
        if (chosen_ != 0) cudaSetDevice(chosen_);
    }

 private:
    const StandardArithmetic arithmetic_;
    int chosen_ = 0;
};

inline int device_attribute(cudaDeviceAttr attribute, const char* purpose) {
    int device = 0, value = 0;
    check(cudaGetDevice(&device), "cudaGetDevice", purpose);
    check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute", purpose);
    return value;
}

inline int64_t free_device_memory() {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo", "the free memory");
    return static_cast<int64_t>(free);
}

// Memory that is freed with its owner.
template <cudaError_t (*kFree)(void*)>
class Memory {
 public:
    Memory() = default;
    Memory(Memory&& other) noexcept : place_(std::exchange(other.place_, nullptr)) {}
    Memory& operator=(Memory&& other) noexcept {
        std::swap(place_, other.place_);
        return *this;
    }
    ~Memory() { kFree(place_); }

    std::byte* data() const { return static_cast<std::byte*>(place_); }

 protected:
    void* place_ = nullptr;
};

// Bytes of the device's memory; the contents are undefined.
class DeviceMemory : public Memory<cudaFree> {
 public:
    DeviceMemory() = default;
    DeviceMemory(int64_t bytes, const char* purpose) {
        const cudaError_t error = cudaMalloc(&place_, static_cast<size_t>(bytes));
        if (error == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            throw OutOfDeviceMemory(bytes, free_device_memory(), purpose);
        }
        check(error, "cudaMalloc", purpose);
    }
};

// Bytes of the host's memory that the device copies from and to while the host goes on.
class PinnedMemory : public Memory<cudaFreeHost> {
 public:
    PinnedMemory() = default;
    PinnedMemory(int64_t bytes, const char* purpose) {
        check(cudaMallocHost(&place_, static_cast<size_t>(bytes)), "cudaMallocHost", purpose);
    }
};

class Event {
 public:
    Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate", "order of streams"); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { cudaEventDestroy(event_); }

    operator cudaEvent_t() const { return event_; }

 private:
    cudaEvent_t event_ = nullptr;
};

class Stream {
 public:
    Stream() {
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate", "copies of the gallery");
    }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() { cudaStreamDestroy(stream_); }

    operator cudaStream_t() const { return stream_; }

 private:
    cudaStream_t stream_ = nullptr;
};

// Places arrays one behind the other. Without a base nothing is placed, only counted.
class Layout {
 public:
    explicit Layout(std::byte* base) : base_(base) {}

    template <class T>
    T* take(int64_t count) {
        T* place = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        used_ += round_up(count * static_cast<int64_t>(sizeof(T)), kAlignment);
        return place;
    }
    int64_t bytes() const { return used_; }

 private:
    static constexpr int64_t kAlignment = 256;  // as cudaMalloc aligns: enough for the widest loads
    std::byte* base_;
    int64_t used_ = 0;
};

}  // namespace spadeline::cuda
