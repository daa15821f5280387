// Codes: what the pruned path reads instead of features. csrc/README.md has the bounds and their proof.
//
// A code stands for one vector: signed bytes, and four terms. The codes of a group of vectors lie interleaved by four
// bytes, so that one register load brings the same dimensions of several vectors. The group's terms follow its bytes:
//
//     record = uint8 [dims / 4][group][4], bytes plus kByteOffset;  float32 [scale, norm, error, residual][group]
//
// A group at the coarsest level is kPanel cells; an image's last group is filled up. At other levels it is four
// consecutive positions, which belong to one position of the level above.
#pragma once

#include <cstdint>

namespace spadeline {

inline constexpr int64_t kPanel = 16;  // lanes of the widest register, 512 bits
inline constexpr int64_t kGroup = 4;   // positions below one position of the next level, at the least
inline constexpr int64_t kTerms = 4;   // scale, norm, error, residual
// A gallery's bytes are stored plus this, since the fastest products take one side without a sign.
inline constexpr int kByteOffset = 128;
// A product of a stored byte and a query's is at most 255 * 127 < 2^15 in magnitude: 2^15 of them stay below 2^30.
inline constexpr int64_t kMostDims = 1 << 15;

// Vectors of a record. This and the next have internal linkage: see match_task.hpp.
static constexpr int64_t group_size(bool coarsest) { return coarsest ? kPanel : kGroup; }

// Bytes of a record of `group` codes of `dims` bytes each.
static constexpr int64_t record_bytes(int64_t dims, int64_t group) {
    return group * (dims + kTerms * static_cast<int64_t>(sizeof(float)));
}

// Only vectors with norms between these get a code, and only projections whose largest component is at least this part
// of the norm: then nothing that a bound computes overflows, or loses digits to denormals.
inline constexpr float kSmallestNorm = 0x1p-40f, kLargestNorm = 0x1p50f, kSmallestPart = 0x1p-12f;

}  // namespace spadeline
