// One instruction set's entry in the table of kernels.
#pragma once

#include "images/cpu/area_rows.hpp"
#include "images/cpu/gray.hpp"
#include "matcher/cpu/coarse.hpp"
#include "matcher/cpu/dense.hpp"
#include "matcher/cpu/encode.hpp"
#include "matcher/cpu/instruction_sets/instruction_set.hpp"
#include "matcher/cpu/refine.hpp"
#include "matcher/cpu/smooth.hpp"

namespace spadeline {

template <InstructionSet Op>
constexpr Kernels kernels_of(const char* name, bool (*supported)()) {
    return {name,
            supported,
            Dense<Op>::share_floats,
            Dense<Op>::match,
            Encoder<Op>::projection_floats,
            Encoder<Op>::pack_projection,
            Encoder<Op>::workspace_floats,
            Encoder<Op>::encode,
            Coarse<Op>::bound_panel,
            Refine<Op>::workspace_floats,
            Refine<Op>::match,
            Smooth<Op>::floats,
            Smooth<Op>::rows,
            Smooth<Op>::columns,
            AreaRows<Op>::floats,
            AreaRows<Op>::make,
            Gray<Op>::levels,
            Gray<Op>::sums,
            Op::lanes};
}

}  // namespace spadeline
