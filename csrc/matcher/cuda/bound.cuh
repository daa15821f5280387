// The lower bound of a squared distance from two codes: cpu/bound.hpp's, one pair at a time.
#pragma once

#include "matcher/cuda/task.cuh"

namespace spadeline::cuda {

struct Terms {
    float scale, norm, error, residual;
};

// The terms of one vector of a record.
__device__ __forceinline__ Terms terms_of(const DeviceCodes& codes, const uint8_t* record, int vector) {
    const auto* terms = reinterpret_cast<const float*>(record + static_cast<int64_t>(codes.book.dims) * codes.group);
    return {terms[vector], terms[codes.group + vector], terms[2 * codes.group + vector],
            terms[3 * codes.group + vector]};
}

__device__ __forceinline__ float lower_bound(const Terms& a, const Terms& b, int dot) {
    float squared = fmaf(-2 * a.scale * b.scale, static_cast<float>(dot), a.norm + b.norm);
    const float apart = a.residual - b.residual;
    squared = fmaf(apart, apart, squared);
    const float least = fmaxf(__fsqrt_rn(fmaxf(squared, 0.0f)) - (a.error + b.error), 0.0f);  // zero where NaN
    return least * least;
}

// A gallery's bytes are stored plus kByteOffset. This subtracts it from four of them.
__device__ __forceinline__ unsigned as_signed(unsigned bytes) { return bytes ^ 0x80808080u; }

// sum[4 q + g] += the products of four bytes each of four query vectors and four gallery vectors.
__device__ __forceinline__ void multiply_codes(const uint4& query, const uint4& gallery, int (&sum)[16]) {
    const unsigned a[4] = {query.x, query.y, query.z, query.w};
    const unsigned b[4] = {as_signed(gallery.x), as_signed(gallery.y), as_signed(gallery.z), as_signed(gallery.w)};
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int g = 0; g < 4; ++g)
            sum[4 * q + g] = __dp4a(static_cast<int>(a[q]), static_cast<int>(b[g]), sum[4 * q + g]);
}

}  // namespace spadeline::cuda
