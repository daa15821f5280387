// The only file that includes CUDA: nvcc's headers, or the tests' emulation of them, with which the same sources run on
// a CPU. Kernels may use what tests/cpp/emulated_cuda.hpp declares, and nothing else.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "matcher/sizes.hpp"

#ifdef SPADELINE_EMULATED_CUDA
#include "emulated_cuda.hpp"
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

namespace spadeline::cuda {

#ifdef SPADELINE_EMULATED_CUDA
inline constexpr bool kEmulated = true;  // the device's memory is the host's
#else
inline constexpr bool kEmulated = false;
#endif

// The blocks of a grid that takes `count` things, `each` of them to a block.
inline unsigned blocks_for(int64_t count, int64_t each) { return static_cast<unsigned>(ceil_div(count, each)); }

// This block's dynamic shared memory.
__device__ __forceinline__ std::byte* shared_memory() {
#ifdef SPADELINE_EMULATED_CUDA
    return emulated::shared_memory();
#else
    extern __shared__ __align__(128) unsigned char bytes[];
    return reinterpret_cast<std::byte*>(bytes);
#endif
}

// Loads what other threads may be changing, past this multiprocessor's cache, which doesn't see other blocks' stores.
// The lanes of a warp may get different values.
template <class T>
__device__ __forceinline__ T fresh(const T* place) {
#ifdef SPADELINE_EMULATED_CUDA
    emulated::meet(false);
#endif
    return *static_cast<const volatile T*>(place);
}

// Lets a kernel take all the dynamic shared memory that a block of the current device may have. All threads share this
// setting, and another thread's launch may need more than this one's, so it is always set to the most there is.
inline cudaError_t allow_shared_memory(const void* kernel) {
    int device = 0, most = 0;
    if (const cudaError_t error = cudaGetDevice(&device)) return error;
    if (const cudaError_t error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
        return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
}

// kernel<<<grid, threads, shared_bytes, stream>>>(arguments...), for any amount of shared memory that the device has.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments));
    std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (constexpr size_t granted = 48 << 10; shared_bytes > granted)  // what every kernel has without asking
        if (const cudaError_t error = allow_shared_memory(function)) return error;
#ifdef SPADELINE_EMULATED_CUDA
    return emulated::launch(function, grid, threads, shared_bytes, stream,
                            [kernel, values] { std::apply(kernel, values); });
#else
    return std::apply(
        [&](auto&... value) {
            void* pointers[] = {static_cast<void*>(&value)..., nullptr};
            return cudaLaunchKernel(function, grid, dim3(threads), pointers, shared_bytes, stream);
        },
        values);
#endif
}

}  // namespace spadeline::cuda
