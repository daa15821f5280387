// What the 32 lanes of a warp do together, and changes to memory that other blocks change as well.
#pragma once

#include <cstdint>

#include "matcher/cuda/device.cuh"

namespace spadeline::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kLanes = 0xffffffff;  // all of them

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % kWarp); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / kWarp); }

template <class T>
__device__ __forceinline__ T sum_of(T value) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kLanes, value, step);
    return value;
}

__device__ __forceinline__ float largest_of(float value) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kLanes, value, step));
    return value;
}

__device__ __forceinline__ unsigned smallest_of(unsigned value) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
        const unsigned other = __shfl_xor_sync(kLanes, value, step);
        value = other < value ? other : value;
    }
    return value;
}

// A step of transposed_sum: half of the lanes keep half of the values.
template <int kCount, class T>
__device__ __forceinline__ void halve(T (&value)[16]) {
    const bool upper = lane_index() & (2 * kCount);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        const T given = upper ? value[i] : value[i + kCount];
        const T kept = upper ? value[i + kCount] : value[i];
        value[i] = kept + __shfl_xor_sync(kLanes, given, 2 * kCount);
    }
}

// Sums 16 values over all lanes. Lane i gets the sum of value i / 2.
template <class T>
__device__ __forceinline__ T transposed_sum(T (&value)[16]) {
    halve<8>(value);
    halve<4>(value);
    halve<2>(value);
    halve<1>(value);
    return value[0] + __shfl_xor_sync(kLanes, value[0], 1);
}

// Lowers a float in memory. Both are not negative, or minus infinity: then their bits have the order of the floats.
__device__ __forceinline__ void lower(float* place, float value) {
    atomicMin(reinterpret_cast<int*>(place), __float_as_int(value));
}

// Adds to a counter and returns what it was.
__device__ __forceinline__ uint64_t add(uint64_t* place, uint64_t value) {
    return atomicAdd(reinterpret_cast<unsigned long long*>(place), static_cast<unsigned long long>(value));
}

}  // namespace spadeline::cuda
