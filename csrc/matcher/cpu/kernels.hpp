// The table of instruction sets. Each is a translation unit with flags of its own, and null in a build that lacks it.
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

// The instruction sets that this machine can run, best first. The last one is always the scalar one.
std::vector<const Kernels*> available_kernels();
// An instruction set by its name, or the best one for "auto". Throws std::invalid_argument with the available names.
const Kernels& kernels_named(const std::string& name);

}  // namespace spadeline
