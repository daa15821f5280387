// The table of instruction sets. Each is its own translation unit with its own flags; null where it wasn't built.
#pragma once

#include <string>
#include <vector>

#include "matcher/match_task.hpp"

namespace spadeline {

const Kernels* avx512vnni_kernels();
const Kernels* avx512_kernels();
const Kernels* avx2vnni_kernels();
const Kernels* avx2_kernels();
const Kernels* neondot_kernels();
const Kernels* neon_kernels();
const Kernels* scalar_kernels();

// Those that this machine can run, best first; the last is always the scalar one.
std::vector<const Kernels*> available_kernels();
// By name, or "auto" for the best. Throws std::invalid_argument with the names there are.
const Kernels& kernels_named(const std::string& name);

}  // namespace spadeline
