// Inspects one frame many times, and writes its map: inspect_all RECIPE FRAME HEIGHT WIDTH MAP. Prints the label, the
// score, and how often libspadeline.so allocated memory after the first three frames. FRAME has RGB bytes alone.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <spadeline/spadeline.hpp>
#include <vector>

namespace {

std::atomic<bool> counting = false;
std::atomic<int> allocations = 0;

void* allocated(size_t size, size_t alignment, const void* caller) {
    Dl_info library{};
    if (counting && dladdr(caller, &library) && std::strstr(library.dli_fname, "libspadeline")) ++allocations;
    void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

// All forms that the library asks for memory in: the address sanitizer's own can't be freed by free().
void* operator new(size_t size) { return allocated(size, sizeof(std::max_align_t), __builtin_return_address(0)); }
void* operator new(size_t size, std::align_val_t alignment) {
    return allocated(size, static_cast<size_t>(alignment), __builtin_return_address(0));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    try {
        return allocated(size, sizeof(std::max_align_t), __builtin_return_address(0));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

int main(int, char** arguments) {
    try {
        std::ifstream file(arguments[2], std::ios::binary);
        const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
        const std::span pixels(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
        const spadeline::Frame frame{pixels, std::atoll(arguments[3]), std::atoll(arguments[4]), spadeline::Color::rgb};
        counting = true;
        const spadeline::Recipe recipe(arguments[1]);
        spadeline::Inspector inspector(recipe, {.threads = 2});
        const int opening = allocations;  // not 0, or nothing is counted
        for (const spadeline::Need need : {spadeline::Need::mask, spadeline::Need::label, spadeline::Need::map}) {
            inspector.set_need(need);
            inspector.inspect(frame);
        }
        allocations = 0;
        for (int i = 0; i < 10; ++i) {
            inspector.set_need(i % 2 ? spadeline::Need::mask : spadeline::Need::label);
            inspector.inspect(frame);
        }
        inspector.set_need(spadeline::Need::map);
        const spadeline::Result result = inspector.inspect(frame);
        counting = false;
        std::ofstream(arguments[5], std::ios::binary)
            .write(reinterpret_cast<const char*>(result.anomaly_map().data()), result.anomaly_map().size_bytes());
        std::printf("%d %a %zu %d %d\n", result.pred_label(), result.pred_score(), result.regions().size(), opening > 0,
                    allocations.load());
        try {
            inspector.inspect({pixels.first(pixels.size() - 1), frame.height, frame.width, frame.color});
        } catch (const spadeline::Error& error) {
            std::printf("%d %s\n", error.code(), error.what());
        }
    } catch (const std::exception& error) {
        std::puts(error.what());
        return 1;
    }
}
