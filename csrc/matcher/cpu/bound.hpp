// The lower bound of a squared distance from two codes, many pairs at once.
//
//     squared = norm_a + norm_b - 2 scale_a scale_b dot + (residual_a - residual_b)^2
//     bound   = base + weight * max(0, sqrt(squared) - error_a - error_b)^2
//
// encode.hpp lowers the norms and raises the errors so far that no rounding of this bound lifts it above the distance
// by more than 2^-18 of it, which `threshold` in refine.hpp allows for.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"

namespace spadeline {

// One side's terms. The query's scale comes multiplied by -2.
template <class Op>
struct Terms {
    typename Op::Reg scale, norm, error, residual;
};

template <class Op>
inline typename Op::Reg lower_bound(const Terms<Op>& a, const Terms<Op>& b, typename Op::Reg dot,
                                    typename Op::Reg weight, typename Op::Reg base) {
    typename Op::Reg squared = Op::fma(Op::mul(a.scale, b.scale), dot, Op::add(a.norm, b.norm));
    const typename Op::Reg apart = Op::sub(a.residual, b.residual);
    squared = Op::fma(apart, apart, squared);
    const typename Op::Reg distance = Op::sub(Op::sqrt(Op::positive(squared)), Op::add(a.error, b.error));
    const typename Op::Reg least = Op::positive(distance);
    return Op::fma(Op::mul(least, least), weight, base);
}

}  // namespace spadeline
