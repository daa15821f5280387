// Fibers: stacks that a thread of the CPU switches between without a system call.
#pragma once

#include <cstddef>

namespace emulated {

class Fiber {
 public:
    Fiber() = default;  // the stack that the thread is on
    explicit Fiber(
        void (*serve)());  // a new stack; `serve` starts when the fiber is first entered, and must not return
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Switches to another fiber, and returns when a fiber switches back to this one.
    void leave_for(Fiber& other);

 private:
    static void begin();

    void (*serve_)() = nullptr;
    std::byte* room_ = nullptr;
    void* pointer_ = nullptr;  // the stack pointer, where the fiber was left
    // For AddressSanitizer.
    const void* stack_ = nullptr;
    size_t stack_bytes_ = 0;
    void* fake_stack_ = nullptr;
};

}  // namespace emulated
