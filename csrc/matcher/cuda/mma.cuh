// The instructions that the dense path needs PTX for: float16 products by tensor cores, and copies into shared memory
// that run while the threads go on. tests/cpp/emulated_mma.hpp does the same in plain C++.
//
// A small matrix is held by a warp's 32 lanes together, two float16 numbers to a word. With row = lane / 4 and
// pair = lane % 4, a lane holds
//
//     Rows     (16 rows, 16 channels)      word w: channels 2 pair + 8 (w / 2) and the next, of row + 8 (w % 2)
//     Columns  (16 channels, 8 columns)    word w: channels 2 pair + 8 w and the next, of column lane / 4
//     sums     (16 rows, 8 columns)        i: row + 8 (i / 2), column 2 pair + i % 2
#pragma once

#include <cstdint>

#include "matcher/cuda/device.cuh"

namespace spadeline::cuda {

// An address in the block's shared memory, in bytes.
using SharedAddress = uint32_t;

struct Rows {
    uint32_t word[4];
};
struct Columns {
    uint32_t word[2];
};

}  // namespace spadeline::cuda

#ifdef SPADELINE_EMULATED_CUDA
#include "emulated_mma.hpp"
#else

namespace spadeline::cuda {

__device__ __forceinline__ SharedAddress shared_address(const void* place) {
    return static_cast<SharedAddress>(__cvta_generic_to_shared(place));
}

// Loads a matrix. Lane i gives the place of 16 bytes: row i % 16, channels 8 (i / 16) and the seven that follow.
__device__ __forceinline__ void load(Rows& rows, SharedAddress place) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(rows.word[0]), "=r"(rows.word[1]), "=r"(rows.word[2]), "=r"(rows.word[3])
                 : "r"(place)
                 : "memory");
}

// Loads two matrices. Lane i gives the place of 16 bytes: column i % 8, channels 8 (i / 8 % 2) and the seven that
// follow, lanes below 16 of the first matrix, lanes from 16 on of the second.
__device__ __forceinline__ void load(Columns& first, Columns& second, SharedAddress place) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(first.word[0]), "=r"(first.word[1]), "=r"(second.word[0]), "=r"(second.word[1])
                 : "r"(place)
                 : "memory");
}

__device__ __forceinline__ void load(Columns& columns, SharedAddress place) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(columns.word[0]), "=r"(columns.word[1])
                 : "r"(place)
                 : "memory");
}

// sums += rows * columns, in float32.
__device__ __forceinline__ void multiply(float (&sums)[4], const Rows& rows, const Columns& columns) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(rows.word[0]), "r"(rows.word[1]), "r"(rows.word[2]), "r"(rows.word[3]), "r"(columns.word[0]),
          "r"(columns.word[1]));
#else  // eight channels at a time
    for (int half = 0; half < 2; ++half)
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
            : "r"(rows.word[2 * half]), "r"(rows.word[2 * half + 1]), "r"(columns.word[half]));
#endif
}

// Multiplies all pairs of several matrices.
template <int R, int C>
__device__ __forceinline__ void multiply(float (&sums)[R][C][4], const Rows (&rows)[R], const Columns (&columns)[C]) {
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < C; ++c) multiply(sums[r][c], rows[r], columns[c]);
}

// Starts a copy of 16 or 4 bytes to shared memory; if not `present`, of zeros. A thread's copies since its last
// `close_copies` are one group. `wait_for_copies<n>` waits for all but the thread's n latest groups.
template <int bytes>
__device__ __forceinline__ void start_copy(SharedAddress to, const void* from, bool present = true) {
    static_assert(bytes == 16 || bytes == 4);
#if __CUDA_ARCH__ >= 800
    const int read = present ? bytes : 0;
    if constexpr (bytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
    }
#else
    if constexpr (bytes == 16) {
        const uint4 words = present ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words.x), "r"(words.y), "r"(words.z),
                     "r"(words.w)
                     : "memory");
    } else {
        const uint32_t word = present ? *static_cast<const uint32_t*>(from) : 0;
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
    }
#endif
}

__device__ __forceinline__ void close_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int but>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
#endif
}

}  // namespace spadeline::cuda

#endif
