// Fibers: the switch between two stacks in assembler, for each processor, and its report to AddressSanitizer.
#include "emulated_fiber.hpp"

#include <sys/mman.h>

#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves this stack's pointer to `left` and switches to the stack that was left with the pointer `entered`. The
// registers that a call must preserve lie on each stack, below the address at which it continues.
extern "C" void emulated_switch(void** left, void* entered);

#if defined(__x86_64__)
asm(R"(
    .pushsection .text
    .type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .popsection
)");
constexpr int kSavedWords = 8, kEntryWord = 6;  // six registers, the address, and one that keeps the stack aligned
#elif defined(__aarch64__)
asm(R"(
    .pushsection .text
    .type emulated_switch, %function
emulated_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .popsection
)");
constexpr int kSavedWords = 20, kEntryWord = 11;
#endif

namespace emulated {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // pages that aren't touched take no memory

// Carried from the start of a switch to its end; a thread has no more than one switch at a time.
constinit thread_local Fiber *left = nullptr, *entered = nullptr;

}  // namespace

Fiber::Fiber(void (*serve)()) : serve_(serve) {
    // The lower half can't be written, so that a stack that overflows ends the program.
    void* room = mmap(nullptr, 2 * kStackBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) throw std::bad_alloc();
    room_ = static_cast<std::byte*>(room);
    std::byte* stack = room_ + kStackBytes;
    if (mprotect(stack, kStackBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    stack_ = stack;
    stack_bytes_ = kStackBytes;
    auto** top = reinterpret_cast<void**>(stack + kStackBytes) - 2 - kSavedWords;
    top[kEntryWord] = reinterpret_cast<void*>(begin);
    pointer_ = top;
}

Fiber::~Fiber() {
    if (!room_) return;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stack_, stack_bytes_);  // the fiber may have been left within calls that never return
#endif
    munmap(room_, 2 * kStackBytes);
}

void Fiber::leave_for(Fiber& other) {
    left = this;
    entered = &other;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack_, other.stack_, other.stack_bytes_);
#endif
    emulated_switch(&pointer_, other.pointer_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_, &left->stack_, &left->stack_bytes_);
#endif
}

void Fiber::begin() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &left->stack_, &left->stack_bytes_);
#endif
    entered->serve_();
}

}  // namespace emulated
