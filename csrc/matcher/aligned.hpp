// A buffer that grows and starts on a cache line: no register load of a panel ever reads from two lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace spadeline {

template <class T>
class AlignedBuffer {
 public:
    // Contents are undefined after a growth; the buffer never shrinks, so a steady state never allocates.
    T* reserve(int64_t count) {
        if (count > capacity_) {
            data_.reset(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kLine)));
            capacity_ = count;
        }
        return data_.get();
    }
    T* data() const { return data_.get(); }

 private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(p, kLine); }
    };
    std::unique_ptr<T, Free> data_;
    int64_t capacity_ = 0;
};

}  // namespace spadeline
