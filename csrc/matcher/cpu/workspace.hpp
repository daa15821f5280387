// Arrays one behind the other in a kernel's workspace. Without a base nothing is placed, only counted.
#pragma once

#include <cstdint>

#include "matcher/sizes.hpp"

namespace spadeline {

// A template over the op struct, so that each instruction set has its own (see match_task.hpp).
template <class Op>
class Workspace {
 public:
    explicit Workspace(float* base) : base_(base) {}

    float* take(int64_t floats) {
        float* place = base_ ? base_ + floats_ : nullptr;
        floats_ += round_up(floats, kLine);
        return place;
    }
    int64_t floats() const { return floats_; }

 private:
    static constexpr int64_t kLine = 16;  // floats of a cache line, and of the widest register
    float* const base_;
    int64_t floats_ = 0;
};

}  // namespace spadeline
