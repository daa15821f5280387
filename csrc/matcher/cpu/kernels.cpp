#include "matcher/cpu/kernels.hpp"

#include <stdexcept>

namespace spadeline {

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> available;
    for (const Kernels* kernels : {avx512vnni_kernels(), avx512_kernels(), avx2vnni_kernels(), avx2_kernels(),
                                   neondot_kernels(), neon_kernels(), scalar_kernels()})
        if (kernels && kernels->supported()) available.push_back(kernels);
    return available;
}

const Kernels& kernels_named(const std::string& name) {
    std::string names = "auto";
    for (const Kernels* kernels : available_kernels()) {
        if (name == "auto" || name == kernels->name) return *kernels;
        names += std::string(", ") + kernels->name;
    }
    throw std::invalid_argument("instruction_set: expected one that this machine runs (" + names + "), got '" + name +
                                "'");
}

}  // namespace spadeline
