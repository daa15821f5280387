// One level's encoder: the codebook in the form that the kernels read, and the gallery's records.
#pragma once

#include <cstdint>
#include <vector>

#include "matcher/aligned.hpp"
#include "matcher/codes.hpp"
#include "matcher/match_task.hpp"

namespace spadeline {

class LevelEncoder {
 public:
    // `basis` is (1 + directions, channels): the mean that is subtracted, then the orthonormal directions that are
    // kept. Without directions all channels are kept, rotated. Throws std::invalid_argument for too many channels, or
    // for directions that aren't orthonormal.
    LevelEncoder(const Kernels& kernels, int64_t channels, int64_t directions, const float* basis);

    const Codebook& book() const { return book_; }
    // Bytes of the record of `group` vectors.
    int64_t record(int64_t group) const { return record_bytes(book_.dims, group); }

    // Encodes `count` vectors into ceil(count / group) records. Places beyond `count` get an infinite norm.
    void encode_records(const float* rows, int64_t count, int64_t group, uint8_t* records) const;

 private:
    const Kernels& kernels_;
    Codebook book_{};
    std::vector<float> mean_, signs_;
    AlignedBuffer<float> projection_;
};

// Bytes of a code: one for each direction, or without directions one for each channel, rounded up to whole registers.
int64_t dims_of(int64_t channels, int64_t directions);

}  // namespace spadeline
