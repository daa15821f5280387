// Codes: what the pruned path reads instead of features. csrc/README.md has the bounds and their proof.
//
// A code stands for one vector: signed bytes, and four terms. Codes of a group of vectors lie interleaved by four
// bytes, so that one register load brings the same dimensions of several vectors, and their terms follow:
//
//     record = uint8 [dims / 4][group][4], bytes plus kByteOffset;  float32 [scale, norm, error, residual][group]
//
// A group is kPanel cells at the coarsest level (an image's last one is filled up), elsewhere four consecutive
// positions, which belong to one position of the level above.
#pragma once

#include <cstdint>

namespace spadeline {

inline constexpr int64_t kPanel = 16;
inline constexpr int64_t kGroup = 4;
inline constexpr int64_t kTerms = 4;
inline constexpr int kByteOffset = 128;
inline constexpr int64_t kMostDims = 1 << 15;  // beyond, a sum of products could leave 32 bits

// Vectors of a record. Internal linkage: see match_task.hpp.
static constexpr int64_t group_size(bool coarsest) { return coarsest ? kPanel : kGroup; }

// Bytes of a record of `group` codes of `dims` bytes each.
static constexpr int64_t record_bytes(int64_t dims, int64_t group) {
    return group * (dims + kTerms * static_cast<int64_t>(sizeof(float)));
}

// Only vectors with norms between these get a code, and only projections whose largest component is at least this part
// of the norm: then nothing that a bound computes overflows, or loses digits to denormals.
inline constexpr float kSmallestNorm = 0x1p-40f, kLargestNorm = 0x1p50f, kSmallestPart = 0x1p-12f;

}  // namespace spadeline
