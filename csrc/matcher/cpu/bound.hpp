// The lower bound of a squared distance from two codes, many pairs at once.
//
//     squared = norm_a + norm_b - 2 scale_a scale_b dot + (residual_a - residual_b)^2
//     bound   = base + weight * max(0, sqrt(squared) - error_a - error_b)^2
//
// Norms were lowered and errors raised by encode.hpp so far that no rounding here can lift a bound above the distance,
// up to the 2^-18 that `threshold_of` in refine.hpp allows for.
#pragma once

#include <cstdint>

#include "matcher/codes.hpp"

namespace spadeline {

// One side's terms; the query's scale is times -2.
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
    const typename Op::Reg surely = Op::positive(distance);
    return Op::fma(Op::mul(surely, surely), weight, base);
}

}  // namespace spadeline
