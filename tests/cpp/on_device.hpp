// Arrays in a device's memory, for tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "matcher/cuda/memory.hpp"

namespace spadeline::cuda {

// Memory of the device, exactly as large as it has to be, so that a sanitizer sees who leaves it.
template <class T>
class OnDevice {
 public:
    explicit OnDevice(size_t count)
        : count_(count), memory_(static_cast<int64_t>(std::max<size_t>(count, 1) * sizeof(T)), "a test") {}
    OnDevice(const T* values, size_t count) : OnDevice(count) { copy(data(), values, cudaMemcpyHostToDevice); }
    explicit OnDevice(const std::vector<T>& values) : OnDevice(values.data(), values.size()) {}

    T* data() const { return reinterpret_cast<T*>(memory_.data()); }
    std::vector<T> values() const {
        std::vector<T> values(count_);
        copy(values.data(), data(), cudaMemcpyDeviceToHost);
        return values;
    }

 private:
    void copy(T* to, const T* from, cudaMemcpyKind kind) const {
        const Stream stream;
        check(cudaMemcpyAsync(to, from, count_ * sizeof(T), kind, stream), "cudaMemcpyAsync", "a test");
        check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test");
    }

    size_t count_;
    DeviceMemory memory_;
};

}  // namespace spadeline::cuda
