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
    // basis: (1 + directions, channels): the mean that is subtracted, then the orthonormal directions that are kept;
    // none: all are, rotated. Throws std::invalid_argument for too many channels, or directions that aren't
    // orthonormal.
    LevelEncoder(const Kernels& kernels, int64_t channels, int64_t directions, const float* basis);

    const Codebook& book() const { return book_; }
    // Bytes of the record of a group of so many vectors.
    int64_t record(int64_t group) const { return record_bytes(book_.dims, group); }

    // Encodes `count` vectors into ceil(count / group) records; places beyond `count` get a norm that is infinite.
    void encode_records(const float* rows, int64_t count, int64_t group, uint8_t* records) const;

 private:
    const Kernels& kernels_;
    Codebook book_{};
    std::vector<float> mean_, signs_;
    AlignedBuffer<float> projection_;
};

// Bytes of a code of so many channels, or directions if there are any.
int64_t dims_of(int64_t channels, int64_t directions);

}  // namespace spadeline
