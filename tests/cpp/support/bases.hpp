// Bases for codes: good ones and bad ones, all of which must give exact results.
#pragma once

#include <cstdint>
#include <vector>

#include "support/features.hpp"

namespace spadeline {

// Returns `count` orthonormal rows. They are made of the given vectors, (given, channels), then of random ones.
std::vector<double> orthonormal_rows(Random& random, int64_t count, int64_t channels, std::vector<double> given = {});

// Returns a basis, (1 + directions, channels). Its directions are made of these vectors (count, channels) or of others.
// Its mean may be wrong, and its directions may be as far from orthonormal ones as is allowed.
std::vector<float> random_basis(Random& random, const std::vector<float>& vectors, int64_t channels,
                                int64_t directions);

}  // namespace spadeline
