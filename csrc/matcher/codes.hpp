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

}  // namespace spadeline
