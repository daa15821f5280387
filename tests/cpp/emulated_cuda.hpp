// The part of CUDA that kernels use, for a C++ compiler.
//
// Every thread of a block is a fiber: it has a stack of its own, and runs on the CPU's thread that launched the kernel.
// Fibers take turns where threads meet (barriers, warp collectives, atomics) and where they read what others change
// (`fresh`). The order is drawn from a seed. Blocks run one after the other, in an order that is drawn as well. Shared
// memory starts as NaNs. The launch ends with emulated::Failure if a barrier or a collective isn't reached by all its
// threads together, or if no thread of a block can go on.
//
// The emulation doesn't show races between two meetings, memory orders, or speed.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "emulated_runtime.hpp"

#define __global__ inline  // headers define kernels
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

inline constinit thread_local emulated::Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

using Where = std::source_location;

// This block's shared memory, aligned to 128 bytes.
std::byte* shared_memory();

// Lets another thread go on. `progress`: the caller changed memory; else it waits for a change.
void meet(bool progress);

// Waits for all of the block's threads that haven't ended. Returns whether any of them came with true.
bool barrier(const char* name, bool any, Where where);

// Waits for the warp's lanes in `mask`, which must include the caller and be the same for all of them. Each lane comes
// with a record. The last lane calls `together` with all records (null for lanes that aren't in the mask), which writes
// each lane's result to its record.
void collective(const char* name, unsigned mask, void* record, void (*together)(void* const* records), Where where);

// The same for records of one type; `together` captures nothing.
template <class Record, class Together>
void collective(const char* name, unsigned mask, Record& record, Together, Where where) {
    collective(
        name, mask, &record,
        [](void* const* records) {
            Record* lanes[32];
            for (int lane = 0; lane < 32; ++lane) lanes[lane] = static_cast<Record*>(records[lane]);
            Together{}(lanes);
        },
        where);
}

// Ends the launch with an error that names the thread.
[[noreturn]] void fail(const char* what, Where where);

template <class T>
struct Shuffle {
    T value, result;
    int source;
};

template <class T>
T shuffle(const char* name, unsigned mask, T value, int source, Where where) {
    Shuffle<T> record{value, value, source};
    if (!(mask >> source & 1)) fail("shuffles from a lane that its mask doesn't name", where);
    const auto together = [](Shuffle<T>* const* lanes) {
        for (int lane = 0; lane < 32; ++lane)
            if (lanes[lane]) lanes[lane]->result = lanes[lanes[lane]->source]->value;
    };
    collective(name, mask, record, together, where);
    return record.result;
}

unsigned ballot(const char* name, unsigned mask, bool holds, Where where);

inline int lane() { return static_cast<int>(threadIdx.x % 32); }

template <class T, class Change>
T atomically(T* place, Change change) {
    meet(false);
    const T before = *place;
    const T after = change(before);
    if (std::memcmp(&before, &after, sizeof(T)) != 0) {
        *place = after;
        meet(true);
    }
    return before;
}

}  // namespace emulated

// Barriers.
inline void __syncthreads(emulated::Where where = emulated::Where::current()) {
    emulated::barrier("__syncthreads", false, where);
}
inline int __syncthreads_or(int holds, emulated::Where where = emulated::Where::current()) {
    return emulated::barrier("__syncthreads_or", holds != 0, where);
}
inline void __syncwarp(unsigned mask = 0xffffffff, emulated::Where where = emulated::Where::current()) {
    emulated::ballot("__syncwarp", mask, true, where);
}
inline void __threadfence() { emulated::meet(true); }
inline void __threadfence_block() { emulated::meet(true); }
inline void __nanosleep(unsigned) { emulated::meet(false); }

// Votes and shuffles.
inline unsigned __ballot_sync(unsigned mask, int holds, emulated::Where where = emulated::Where::current()) {
    return emulated::ballot("__ballot_sync", mask, holds != 0, where);
}
inline int __any_sync(unsigned mask, int holds, emulated::Where where = emulated::Where::current()) {
    return emulated::ballot("__any_sync", mask, holds != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int holds, emulated::Where where = emulated::Where::current()) {
    return emulated::ballot("__all_sync", mask, holds != 0, where) == mask;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, emulated::Where where = emulated::Where::current()) {
    const int first = emulated::lane() / width * width;
    return emulated::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  emulated::Where where = emulated::Where::current()) {
    const int lane = emulated::lane(), end = lane / width * width + width, source = lane ^ lanes;
    return emulated::shuffle("__shfl_xor_sync", mask, value, source < end ? source : lane, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                   emulated::Where where = emulated::Where::current()) {
    const int lane = emulated::lane(), end = lane / width * width + width, source = lane + static_cast<int>(lanes);
    return emulated::shuffle("__shfl_down_sync", mask, value, source < end ? source : lane, where);
}

// Atomics, for the types that CUDA has them for.
#define SPADELINE_ATOMIC(name, type, after)                                             \
    inline type name(type* place, type value) {                                         \
        return emulated::atomically(place, [&](type before) -> type { return after; }); \
    }
#define SPADELINE_ATOMICS(type)                                                                               \
    SPADELINE_ATOMIC(atomicAdd, type, before + value)                                                         \
    SPADELINE_ATOMIC(atomicMin, type, value < before ? value : before)                                        \
    SPADELINE_ATOMIC(atomicMax, type, value > before ? value : before)                                        \
    SPADELINE_ATOMIC(atomicExch, type, (static_cast<void>(before), value))                                    \
    SPADELINE_ATOMIC(atomicOr, type, before | value)                                                          \
    inline type atomicCAS(type* place, type expected, type value) {                                           \
        return emulated::atomically(place, [&](type before) { return before == expected ? value : before; }); \
    }
SPADELINE_ATOMICS(int)
SPADELINE_ATOMICS(unsigned)
SPADELINE_ATOMICS(unsigned long long)
SPADELINE_ATOMIC(atomicAdd, float, before + value)
SPADELINE_ATOMIC(atomicAdd, double, before + value)
SPADELINE_ATOMIC(atomicExch, float, (static_cast<void>(before), value))
#undef SPADELINE_ATOMICS
#undef SPADELINE_ATOMIC

// Arithmetic.
inline int __dp4a(int a, int b, int c) {
    auto sum = static_cast<unsigned>(c);
    for (int i = 0; i < 32; i += 8)
        sum += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
    return static_cast<int>(sum);
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits ? std::countr_zero(static_cast<unsigned>(bits)) + 1 : 0; }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
template <class T>
T __ldg(const T* place) {
    return *place;
}
inline float __fsqrt_rn(float value) { return std::sqrt(value); }
inline float __fsqrt_rd(float value) {
    const float root = std::sqrt(value);
    return static_cast<double>(root) * root > value ? std::nextafter(root, 0.0f) : root;
}
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
using std::fma, std::fmaf, std::fmaxf, std::fminf;

// float16.
struct __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
using half = __half;
using half2 = __half2;
inline float __half2float(__half half) {
    const uint32_t sign = (half.bits & 0x8000u) << 16, size = half.bits & 0x7fffu;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(size << 13) * 0x1p112f);  // subnormals too
    return std::bit_cast<float>(sign | (size < 0x7c00 ? scaled : 0x7f800000 | size << 13));
}
__half __float2half_rn(float value);
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
inline unsigned short __half_as_ushort(__half half) { return half.bits; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
