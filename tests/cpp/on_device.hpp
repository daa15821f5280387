// Arrays in a device's memory, for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "matcher/cuda/memory.hpp"

namespace spadeline::cuda {

template <class T>
void copy(T* to, const T* from, size_t count, cudaMemcpyKind kind) {
    const Stream stream;
    check(cudaMemcpyAsync(to, from, count * sizeof(T), kind, stream), "cudaMemcpyAsync", "a test");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test");
}

template <class T>
std::vector<T> copied_from_device(const T* from, size_t count) {
    std::vector<T> values(count);
    copy(values.data(), from, count, cudaMemcpyDeviceToHost);
    return values;
}

// Memory of the device that is exactly as large as it must be, so that a sanitizer sees accesses beyond it.
template <class T>
class OnDevice {
 public:
    explicit OnDevice(size_t count)
        : count_(count), memory_(static_cast<int64_t>(std::max<size_t>(count, 1) * sizeof(T)), "a test") {}
    OnDevice(const T* values, size_t count) : OnDevice(count) { set(values); }
    explicit OnDevice(const std::vector<T>& values) : OnDevice(values.data(), values.size()) {}

    void set(const T* values) const { copy(data(), values, count_, cudaMemcpyHostToDevice); }
    T* data() const { return reinterpret_cast<T*>(memory_.data()); }
    std::vector<T> values() const { return copied_from_device<T>(data(), count_); }

 private:
    size_t count_;
    DeviceMemory memory_;
};

}  // namespace spadeline::cuda
