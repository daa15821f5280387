// The emulated device: kernels compute the right results on it, and it reports what is wrong with them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "matcher/cuda/device.cuh"

namespace {

using namespace spadeline;
constexpr unsigned kAll = 0xffffffff;

// An array on the device that can be filled and read.
template <class T>
class Array {
 public:
    explicit Array(const std::vector<T>& values) : count_(values.size()) {
        expect(cudaMalloc(&data_, count_ * sizeof(T)) == cudaSuccess, "cudaMalloc");
        cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice, nullptr);
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    ~Array() { cudaFree(data_); }
    operator T*() const { return data_; }
    std::vector<T> values() const {
        std::vector<T> values(count_);
        cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, nullptr);
        cudaStreamSynchronize(nullptr);
        return values;
    }

 private:
    T* data_ = nullptr;
    size_t count_;
};

template <class... Parameters, class... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared, Arguments&&... arguments) {
    const cudaError_t error =
        cuda::launch(kernel, grid, threads, shared, nullptr, std::forward<Arguments>(arguments)...);
    expect(error == cudaSuccess, std::string("launch: ") + cudaGetErrorName(error));
}

void for_seeds(uint64_t count, const std::function<void()>& what) {
    for (emulated::device().seed = 1; emulated::device().seed <= count; ++emulated::device().seed) what();
    emulated::device().seed = 1;
}

__global__ void sum_all(const int* values, int* sum, int count) {
    int* parts = reinterpret_cast<int*>(cuda::shared_memory());
    int part = 0;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < static_cast<unsigned>(count);
         i += gridDim.x * blockDim.x)
        part += values[i];
    for (unsigned lanes = 16; lanes; lanes /= 2) part += __shfl_down_sync(kAll, part, lanes);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    part = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
    for (int lanes = 16; lanes; lanes /= 2) part += __shfl_xor_sync(kAll, part, lanes);
    if (threadIdx.x == 0) atomicAdd(sum, part);
}

void test_reductions() {
    std::vector<int> values(5003);
    std::iota(values.begin(), values.end(), -17);
    const int expected = std::accumulate(values.begin(), values.end(), 0);
    const Array<int> device(values);
    for (const unsigned threads : {32u, 96u, 256u, 1024u}) {
        const Array<int> sum({0});
        run(sum_all, dim3(7), threads, 128, device, sum, 5003);
        expect(sum.values()[0] == expected, "a sum over " + std::to_string(threads) + " threads");
    }
}

__global__ void vote(int* out) {
    const int lane = static_cast<int>(threadIdx.x);
    out[lane] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
    out[32 + lane] = __any_sync(kAll, lane == 31) + 2 * __any_sync(kAll, lane > 31) + 4 * __all_sync(kAll, lane < 32) +
                     8 * __all_sync(kAll, lane < 31);
    out[64 + lane] = __shfl_sync(kAll, lane, lane * 7, 8);
    out[96 + lane] = __shfl_xor_sync(kAll, lane, 5);
    out[128 + lane] = __shfl_down_sync(kAll, lane, 3, 16);
    const unsigned half = lane < 16 ? 0xffff : 0xffff0000;  // both halves, each with its own mask
    out[160 + lane] = static_cast<int>(__ballot_sync(half, lane % 2));
    if (lane < 8) out[192 + lane] = __shfl_xor_sync(0xffu, lane, 1);
    out[224 + lane] = __syncthreads_or(lane == 9) + 2 * __syncthreads_or(0);
}

void test_votes_and_shuffles() {
    for_seeds(8, [] {
        const Array<int> out(std::vector<int>(256, -1));
        run(vote, dim3(1), 32, 0, out);
        const std::vector<int> got = out.values();
        for (int lane = 0; lane < 32; ++lane) {
            const int down = lane % 16 < 13 ? lane + 3 : lane;
            const int wanted[] = {0x49249249,
                                  5,
                                  lane / 8 * 8 + lane * 7 % 8,
                                  lane ^ 5,
                                  down,
                                  static_cast<int>(lane < 16 ? 0xaaaau : 0xaaaa0000u),
                                  lane < 8 ? lane ^ 1 : -1,
                                  1};
            for (int i = 0; i < 8; ++i)
                expect(got[i * 32 + lane] == wanted[i], "vote or shuffle " + std::to_string(i) + " of lane " +
                                                            std::to_string(lane) + ": " +
                                                            std::to_string(got[i * 32 + lane]));
        }
    });
}

__global__ void transpose(const float* in, float* out, int synchronised) {
    auto* tile = reinterpret_cast<float*>(cuda::shared_memory());
    const unsigned row = threadIdx.x / 32, column = threadIdx.x % 32;
    tile[row * 33 + column] = in[threadIdx.x];
    if (synchronised) __syncthreads();
    out[threadIdx.x] = tile[column * 33 + row];
}

__global__ void neighbours(const float* in, float* out, int synchronised) {
    auto* tile = reinterpret_cast<float*>(cuda::shared_memory());
    tile[threadIdx.x] = in[threadIdx.x];
    if (synchronised) __syncwarp();
    out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

// A value must not be overwritten for the next turn before all lanes have read it in this one.
__global__ void rotate(const float* in, float* out, int synchronised) {
    auto* tile = reinterpret_cast<float*>(cuda::shared_memory());
    float sum = 0;
    for (int turn = 0; turn < 4; ++turn) {
        tile[threadIdx.x] = in[threadIdx.x] + static_cast<float>(turn);
        __syncthreads();
        sum += tile[(threadIdx.x + 32) % blockDim.x];
        if (synchronised) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

void test_races() {
    std::vector<float> values(1024);
    std::iota(values.begin(), values.end(), 0.0f);
    const Array<float> in(values);
    int wrong[3][2] = {};
    for_seeds(32, [&] {
        for (int synchronised = 0; synchronised < 2; ++synchronised) {
            const Array<float> turned(values), swapped(values), rotated(values);
            run(transpose, dim3(1), 1024, 33 * 32 * 4, in, turned, synchronised);
            run(neighbours, dim3(1), 32, 128, in, swapped, synchronised);
            run(rotate, dim3(1), 64, 256, in, rotated, synchronised);
            const auto a = turned.values(), b = swapped.values(), c = rotated.values();
            bool right[] = {true, true, true};
            for (int i = 0; i < 1024; ++i) right[0] &= a[i] == values[i % 32 * 32 + i / 32];
            for (int i = 0; i < 32; ++i) right[1] &= b[i] == values[i ^ 1];
            for (int i = 0; i < 64; ++i) right[2] &= c[i] == 4 * values[(i + 32) % 64] + 6;
            for (int i = 0; i < 3; ++i) wrong[i][synchronised] += !right[i];
        }
    });
    for (int i = 0; i < 3; ++i) {
        expect(wrong[i][1] == 0, "kernel " + std::to_string(i) + " is wrong though synchronised");
        expect(wrong[i][0] >= 16, "kernel " + std::to_string(i) + " without its barrier went wrong with " +
                                      std::to_string(wrong[i][0]) + " of 32 seeds");
    }
}

__global__ void spin(int* lock, int* count, int releases) {
    for (int i = 0; i < 3; ++i) {
        while (atomicCAS(lock, 0, 1) != 0) __nanosleep(20);
        const int before = *count;
        __threadfence();
        *count = before + 1;
        if (releases) {
            __threadfence();
            atomicExch(lock, 0);
        }
    }
}

__global__ void count_up(int* count, int atomic) {
    if (atomic) {
        atomicAdd(count, 1);
        return;
    }
    const int before = *count;
    __threadfence();
    *count = before + 1;
}

template <class T>
__global__ void atomics(T* out, T* seen) {
    const T value = static_cast<T>(threadIdx.x + 1);
    atomicAdd(out, value);
    atomicMin(out + 1, value);
    atomicMax(out + 2, value);
    atomicOr(out + 3, value);
    seen[threadIdx.x] = atomicExch(out + 4, value);
    atomicCAS(out + 5, T{77}, value);
    atomicCAS(out + 6, T{78}, value);
}

template <class T>
void test_atomics_of(const std::string& type) {
    for_seeds(4, [&] {
        const Array<T> out({5, 100, 3, 64, 0, 77, 77}), seen(std::vector<T>(64, 0));
        run(atomics<T>, dim3(1), 64, 0, out, seen);
        std::vector<T> got = out.values(), exchanged = seen.values();
        expect(got[0] == 5 + 64 * 65 / 2 && got[1] == 1 && got[2] == 64 && got[3] == 127 && got[6] == 77,
               "atomics of " + type);
        expect(got[5] >= 1 && got[5] <= 64, "atomicCAS of " + type);
        exchanged.push_back(got[4]);  // each value was seen once, and so was what stood there before
        std::sort(exchanged.begin(), exchanged.end());
        for (size_t i = 0; i < exchanged.size(); ++i)
            expect(exchanged[i] == static_cast<T>(i), "atomicExch of " + type);
    });
}

void test_atomics() {
    test_atomics_of<int>("int");
    test_atomics_of<unsigned>("unsigned");
    test_atomics_of<unsigned long long>("unsigned long long");
    int lost = 0;
    for_seeds(8, [&] {
        const Array<int> lock({0, 0}), counts({0, 0});
        run(spin, dim3(5), 96, 0, lock, lock + 1, 1);
        expect(lock.values()[1] == 5 * 96 * 3, "a count under a lock: " + std::to_string(lock.values()[1]));
        run(count_up, dim3(1), 64, 0, counts, 1);
        run(count_up, dim3(1), 64, 0, counts + 1, 0);
        expect(counts.values()[0] == 64, "an atomic count");
        lost += counts.values()[1] < 64;
    });
    expect(lost == 8, "counts without atomics lost nothing with " + std::to_string(8 - lost) + " of 8 seeds");
}

enum class Mistake { half_a_barrier, two_barriers, two_shuffles, two_masks, not_named, ended, ends, unnamed, thrown };

__global__ void go_wrong(Mistake mistake) {
    const unsigned thread = threadIdx.x;
    switch (mistake) {
        case Mistake::half_a_barrier:
            if (thread < 48)
                __syncthreads();
            else
                __syncwarp();
            return;
        case Mistake::two_barriers:
            if (thread < 32)
                __syncthreads();
            else
                __syncthreads();
            return;
        case Mistake::two_shuffles:
            if (thread % 2)
                __shfl_sync(kAll, thread, 0);
            else
                __shfl_sync(kAll, thread, 1);
            return;
        case Mistake::two_masks:
            __syncwarp(thread % 32 == 3 ? 0xf : kAll);
            return;
        case Mistake::not_named:
            __ballot_sync(0xffff, 1);
            return;
        case Mistake::ended:
        case Mistake::ends:
            if (thread != 40) __syncwarp();
            return;
        case Mistake::unnamed:
            if (thread % 32 < 16) __shfl_xor_sync(0xffffu, thread, 16);
            return;
        case Mistake::thrown:
            if (thread == 33) throw std::out_of_range("beyond");
            __syncthreads();
    }
}

std::string failure(const std::function<void()>& what) {
    try {
        what();
    } catch (const emulated::Failure& error) {
        return error.what();
    }
    return "no failure";
}

void test_failures() {
    const auto contains = [](const std::string& text, const std::vector<std::string>& parts) {
        for (const std::string& part : parts)
            expect(text.find(part) != std::string::npos, "expected '" + part + "', got '" + text + "'");
    };
    for_seeds(4, [&] {
        const auto wrong = [](Mistake mistake) { return failure([=] { run(go_wrong, dim3(1, 2), 64, 0, mistake); }); };
        contains(wrong(Mistake::half_a_barrier), {"block (0, ", "deadlock", "48 waiting in __syncthreads",
                                                  "16 waiting in __syncwarp", "test_emulation.cpp:", "thread 48"});
        contains(wrong(Mistake::two_barriers), {"thread ", "is in __syncthreads", "of its block in __syncthreads"});
        contains(wrong(Mistake::two_shuffles), {"thread ", "is in __shfl_sync", "which it waits for, in __shfl_sync"});
        contains(wrong(Mistake::two_masks), {"another mask"});
        contains(wrong(Mistake::not_named), {"mask doesn't name it"});
        contains(wrong(Mistake::ended), {"thread 40", "ended"});
        contains(wrong(Mistake::unnamed), {"mask doesn't name"});
        contains(wrong(Mistake::thrown), {"thread 33: beyond"});
    });
    const Array<int> lock({0, 0});
    contains(failure([&] { run(spin, dim3(1), 32, 0, lock, lock + 1, 0); }), {"waits for what none"});
}

void test_arithmetic() {
    expect(__dp4a(static_cast<int>(0x80ff7f01), static_cast<int>(0x80017f02), -5) == 16384 - 1 + 16129 + 2 - 5, "dp4a");
    expect(__popc(0xf0f0u) == 8 && __ffs(0) == 0 && __ffs(40) == 4 && __clz(1) == 31 && __clz(0) == 32, "bits");
    for (uint32_t i = 0; i < 0x7f800000; i += 30011) {
        const float value = __uint_as_float(i), root = __fsqrt_rd(value);
        const double above = std::nextafter(root, INFINITY);
        expect(static_cast<double>(root) * root <= value && above * above > value, "__fsqrt_rd");
    }
    for (int i = 0; i < 0x7c00; ++i) {
        const auto bits = static_cast<unsigned short>(i);
        const float value = __half2float(__ushort_as_half(bits));
        expect(__half_as_ushort(__float2half_rn(value)) == bits, "float16 " + std::to_string(i));
        expect(__half_as_ushort(__float2half_rn(-value)) == (bits | 0x8000), "float16 -" + std::to_string(i));
        const float next = i == 0x7bff ? 65536 : __half2float(__ushort_as_half(static_cast<unsigned short>(i + 1)));
        const float middle = (value + next) / 2;  // exact; a tie goes to the even one
        expect(__half_as_ushort(__float2half_rn(middle)) == i + i % 2, "tie above float16 " + std::to_string(i));
        expect(__half_as_ushort(__float2half_rn(std::nextafter(middle, 0.0f))) == i, "below a tie");
        expect(__half_as_ushort(__float2half_rn(std::nextafter(middle, 1e9f))) == i + 1, "above a tie");
    }
    expect(std::isnan(__half2float(__float2half_rn(NAN))) && std::isinf(__half2float(__float2half_rn(-1e30f))),
           "float16 beyond its range");
}

__global__ void own_numbers(unsigned* out) {
    auto* shared = reinterpret_cast<unsigned*>(cuda::shared_memory());
    out[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x * blockDim.x + blockIdx.x * blockDim.x + threadIdx.x] =
        threadIdx.x + shared[threadIdx.x] + 1;
    shared[threadIdx.x] = 0;
}

void test_blocks() {
    const Array<unsigned> out(std::vector<unsigned>(3 * 5 * 7 * 32, 99));
    run(own_numbers, dim3(3, 5, 7), 32, 128, out);
    const auto got = out.values();
    for (size_t i = 0; i < got.size(); ++i) expect(got[i] == i % 32, "each block starts with shared memory of ones");
    expect(cuda::launch(own_numbers, dim3(1), 33, 0, nullptr, out) == cudaErrorInvalidConfiguration, "33 threads");
    expect(cuda::launch(own_numbers, dim3(0), 32, 0, nullptr, out) == cudaErrorInvalidConfiguration, "no block");
    expect(cuda::launch(own_numbers, dim3(1), 32, 1 << 20, nullptr, out) == cudaErrorInvalidValue, "shared memory");
    std::vector<std::thread> threads;  // each CPU thread has fibers of its own
    for (int i = 0; i < 3; ++i) threads.emplace_back(test_reductions);
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
    for_seeds(8, test_reductions);
    test_votes_and_shuffles();
    test_races();
    test_atomics();
    test_failures();
    test_arithmetic();
    test_blocks();
    return report();
}
