// The allocation functions of the process: a program's own ones take the place of those in its libraries. They count,
// and pass everything on to the C library. Without glibc, only what C++ allocates with `new` is counted.
#include "allocations.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

std::atomic<bool> counting = false;
std::atomic<int64_t> all = 0, by_library = 0;

void count(const void* caller) {
    if (!counting.load(std::memory_order_relaxed)) return;
    all.fetch_add(1, std::memory_order_relaxed);
    Dl_info library{};
    if (dladdr(caller, &library) && library.dli_fname && std::strstr(library.dli_fname, "libspadeline"))
        by_library.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void start_counting() {
    all = by_library = 0;
    counting = true;
}

Allocations stop_counting() {
    counting = false;
    return {all, by_library};
}

#ifdef __GLIBC__
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}
void* calloc(size_t number, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(number, size);
}
void* realloc(void* memory, size_t size) {
    count(__builtin_return_address(0));
    return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
}

namespace {

void* passed_on(size_t size) { return __libc_malloc(size); }
void* passed_on(size_t size, std::align_val_t alignment) {
    return __libc_memalign(static_cast<size_t>(alignment), size);
}

}  // namespace
#else
namespace {

void* passed_on(size_t size) { return std::malloc(size); }
void* passed_on(size_t size, std::align_val_t alignment) {
    const auto unit = static_cast<size_t>(alignment);
    return std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
}

}  // namespace
#endif

void* operator new(size_t size) {
    count(__builtin_return_address(0));
    if (void* memory = passed_on(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment) {
    count(__builtin_return_address(0));
    if (void* memory = passed_on(size ? size : 1, alignment)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
