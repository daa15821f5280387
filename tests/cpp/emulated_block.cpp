// Runs a kernel's blocks: their fibers, the order in which they run, and where they meet.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "emulated_fiber.hpp"
#include "emulated_internal.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulated {
namespace {

constexpr unsigned kLanes = 32, kMostThreads = 1024, kAll = 0xffffffff;
constexpr int64_t kPatience = 1 << 22;  // meetings of a block without progress before the launch ends with a failure

struct Random {
    uint64_t state;
    uint32_t next() {  // Marsaglia's xorshift, and the upper half of a product with it
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return static_cast<uint32_t>((state * 0x9e3779b97f4a7c15u) >> 32);
    }
    int bit_of(uint32_t bits) {  // a random one of the bits that are set
        const auto turn = static_cast<int>(next() % kLanes);
        return (std::countr_zero(std::rotr(bits, turn)) + turn) % 32;
    }
};

struct Waiting {
    const char* name;
    unsigned mask;  // of a warp's lanes; 0: the block's barrier
    Where where;
    void* record;
};

struct Warp {
    uint32_t ready, waiting, ended;  // one bit a lane; `waiting` is for a collective, not for the barrier
};

// What runs on one of the CPU's threads. Its fibers run one block after the other, and are kept for the next launch.
struct Processor {
    Fiber outside;  // the stack of the thread that launched the kernel
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Waiting> waiting;  // one a fiber
    std::array<Warp, kMostThreads / kLanes> warps;
    uint32_t warps_ready = 0;
    unsigned threads = 0, current = 0, alive = 0, at_barrier = 0, first_at_barrier = 0;
    bool arriving = false, arrived = false;  // whether a thread came to the barrier with true
    int64_t idle = 0;
    uint32_t constancy = 0;  // out of 2^32: how likely it is that the same warp goes on
    Random random{1};
    std::byte* shared = nullptr;
    const std::function<void()>* thread = nullptr;
    std::string failure;
    uint64_t launches = 0;
};

constinit thread_local Processor* processor = nullptr;  // this thread's, from its first launch on
Processor& this_processor() { return *processor; }

std::string place(const Where& where) {
    const std::string file = where.file_name();
    return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

std::string text_of(const Waiting& waiting) { return std::string(waiting.name) + " (" + place(waiting.where) + ")"; }

bool same(const Waiting& a, const Waiting& b) {
    const auto equal = [](const char* x, const char* y) { return x == y || std::strcmp(x, y) == 0; };
    return a.mask == b.mask && a.where.line() == b.where.line() && a.where.column() == b.where.column() &&
           equal(a.name, b.name) && equal(a.where.file_name(), b.where.file_name());
}

// Ends the launch from within a fiber. The fiber never continues, and what it holds is lost.
[[noreturn]] void leave() {
    Processor& p = this_processor();
    p.fibers[p.current]->leave_for(p.outside);
    std::abort();
}

std::string coordinates() {
    return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
           std::to_string(blockIdx.z) + ")";
}

void tell(const std::string& what) {
    this_processor().failure = coordinates() + ", thread " + std::to_string(threadIdx.x) + ": " + what;
}

// No thread can go on: says where all of them wait.
void tell_deadlock() {
    Processor& p = this_processor();
    p.failure = coordinates() + ": deadlock";
    const auto ended = [&](unsigned thread) { return p.warps[thread / kLanes].ended >> thread % kLanes & 1; };
    std::vector<bool> told(p.threads);
    for (unsigned first = 0; first < p.threads; ++first) {
        if (told[first] || ended(first)) continue;
        const Waiting& waiting = p.waiting[first];
        unsigned count = 0;
        for (unsigned other = first; other < p.threads; ++other)
            if (!ended(other) && same(waiting, p.waiting[other])) told[other] = true, ++count;
        p.failure += "; " + std::to_string(count) + " waiting in " + text_of(waiting) + ", the first is thread " +
                     std::to_string(first);
    }
    if (p.alive < p.threads) p.failure += "; " + std::to_string(p.threads - p.alive) + " have ended";
}

// Switches to a random fiber that is ready, often one of the same warp, so that warps get ahead of each other.
void go_on() {
    Processor& p = this_processor();
    if (!p.warps_ready) {
        if (p.alive) {
            tell_deadlock();
            leave();
        }
        return p.fibers[p.current]->leave_for(p.outside);
    }
    unsigned warp = p.current / kLanes;
    if (!(p.warps_ready >> warp & 1) || p.random.next() >= p.constancy)
        warp = static_cast<unsigned>(p.random.bit_of(p.warps_ready));
    const unsigned from = p.current, to = warp * kLanes + static_cast<unsigned>(p.random.bit_of(p.warps[warp].ready));
    if (from == to) return;
    p.current = to;
    threadIdx.x = to;
    p.fibers[from]->leave_for(*p.fibers[to]);
}

void set_ready(unsigned warp, uint32_t lanes) {
    Processor& p = this_processor();
    p.warps[warp].ready |= lanes;
    if (p.warps[warp].ready) p.warps_ready |= 1u << warp;
}

void set_waiting(unsigned thread) {
    Processor& p = this_processor();
    Warp& warp = p.warps[thread / kLanes];
    warp.ready &= ~(1u << thread % kLanes);
    if (!warp.ready) p.warps_ready &= ~(1u << thread / kLanes);
}

void open_barrier_if_all_came() {
    Processor& p = this_processor();
    if (!p.alive || p.at_barrier != p.alive) return;
    p.arrived = p.arriving;
    p.arriving = false;
    p.at_barrier = 0;
    p.idle = 0;
    for (unsigned w = 0; w < p.threads / kLanes; ++w) set_ready(w, kAll & ~p.warps[w].ended);
}

void end_thread() {
    Processor& p = this_processor();
    Warp& warp = p.warps[p.current / kLanes];
    const uint32_t lane = 1u << p.current % kLanes;
    for (uint32_t waiting = warp.waiting; waiting; waiting &= waiting - 1) {
        const unsigned other = p.current / kLanes * kLanes + static_cast<unsigned>(std::countr_zero(waiting));
        const Waiting& at = p.waiting[other];
        if (!(at.mask & lane)) continue;
        tell("has ended, but thread " + std::to_string(other) + " waits for it in " + text_of(at));
        leave();
    }
    set_waiting(p.current);
    warp.ended |= lane;
    --p.alive;
    p.idle = 0;
    open_barrier_if_all_came();
}

// Says where a kernel is if the program ends within it: sanitizers, assert and the CPU say only what happened.
void say_where() {
    if (!processor || !processor->shared) return;  // in no kernel
    char text[128];
    std::snprintf(text, sizeof text, "emulated kernel: block (%u, %u, %u), thread %u\n", blockIdx.x, blockIdx.y,
                  blockIdx.z, threadIdx.x);
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, std::strlen(text));
}

void say_where_at_the_end() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(say_where);
    constexpr int signals[] = {SIGABRT};  // the others are the sanitizer's
#else
    constexpr int signals[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
#endif
    static std::byte stack[16 << 10];  // the fiber's may be what is at its end
    const stack_t alternative = {stack, 0, sizeof stack};
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_handler = [](int number) {
        say_where();
        raise(number);
    };
    action.sa_flags = SA_ONSTACK | static_cast<int>(SA_RESETHAND);
    for (const int number : signals) sigaction(number, &action, nullptr);
}

// What each fiber runs, for ever: a thread of one block, then one of the next.
void serve() {
    Processor& p = this_processor();
    for (;;) {
        try {
            (*p.thread)();
        } catch (const std::exception& error) {
            tell(error.what());
        } catch (...) {
            tell("an exception");
        }
        if (!p.failure.empty()) leave();
        end_thread();
        go_on();
    }
}

void run_block(unsigned threads) {
    Processor& p = this_processor();
    p.threads = p.alive = threads;
    p.at_barrier = 0;
    p.arriving = p.arrived = false;
    p.idle = 0;
    p.warps_ready = 0;
    for (unsigned w = 0; w < threads / kLanes; ++w) {
        p.warps[w] = {0, 0, 0};
        set_ready(w, kAll);
    }
    constexpr uint32_t constancies[] = {0, 1u << 31, 0xf0000000, 0xff000000};
    p.constancy = constancies[p.random.next() % 4];
    p.current = p.random.next() % threads;
    threadIdx = {p.current, 0, 0};
    p.outside.leave_for(*p.fibers[p.current]);
    if (p.failure.empty()) return;
    p.fibers.clear();  // most of them are somewhere within the kernel
    throw Failure(std::exchange(p.failure, {}) + "; launch " + std::to_string(p.launches) + ", seed " +
                  std::to_string(device().seed));
}

}  // namespace

extern "C" [[gnu::visibility("default")]] void __ubsan_on_report();
void __ubsan_on_report() { say_where(); }  // the undefined behaviour sanitizer calls it by this name

std::byte* shared_memory() { return this_processor().shared; }

void fail(const char* what, Where where) {
    tell(std::string(what) + " (" + place(where) + ")");
    leave();
}

void meet(bool progress) {
    Processor& p = this_processor();
    if (progress) p.idle = 0;
    if (++p.idle > kPatience) {
        tell("its block waits for what none of its threads does (blocks run one after the other)");
        leave();
    }
    go_on();
}

bool barrier(const char* name, bool any, Where where) {
    Processor& p = this_processor();
    Waiting& waiting = p.waiting[p.current];
    waiting = {name, 0, where, nullptr};
    if (p.at_barrier == 0) p.first_at_barrier = p.current;
    if (const Waiting& first = p.waiting[p.first_at_barrier]; !same(waiting, first)) {
        tell("is in " + text_of(waiting) + ", but thread " + std::to_string(p.first_at_barrier) + " of its block in " +
             text_of(first));
        leave();
    }
    set_waiting(p.current);
    ++p.at_barrier;
    p.arriving |= any;
    open_barrier_if_all_came();
    go_on();
    return p.arrived;
}

void collective(const char* name, unsigned mask, void* record, void (*together)(void* const*), Where where) {
    Processor& p = this_processor();
    const unsigned first = p.current / kLanes * kLanes;
    const uint32_t lane = 1u << p.current % kLanes;
    Warp& warp = p.warps[first / kLanes];
    Waiting& waiting = p.waiting[p.current];
    waiting = {name, mask, where, record};
    if (!(mask & lane)) fail("takes part in a collective whose mask doesn't name it", where);
    if (mask & warp.ended) fail("waits for lanes of its warp that have ended", where);
    if (const uint32_t others = warp.waiting & mask) {  // as they wait for each other, one stands for all
        const unsigned other = first + static_cast<unsigned>(std::countr_zero(others));
        const Waiting& theirs = p.waiting[other];
        if (!same(waiting, theirs)) {
            tell("is in " + text_of(waiting) + ", but thread " + std::to_string(other) + ", which it waits for, in " +
                 text_of(theirs) + (mask == theirs.mask ? "" : " with another mask"));
            leave();
        }
    }
    warp.waiting |= lane;
    set_waiting(p.current);
    if ((warp.waiting & mask) == mask) {
        void* records[kLanes];
        for (unsigned l = 0; l < kLanes; ++l) records[l] = mask >> l & 1 ? p.waiting[first + l].record : nullptr;
        together(records);
        warp.waiting &= ~mask;
        set_ready(first / kLanes, mask);
        p.idle = 0;
    }
    go_on();
}

unsigned ballot(const char* name, unsigned mask, bool holds, Where where) {
    unsigned votes = holds;
    const auto together = [](unsigned* const* lanes) {
        unsigned all = 0;
        for (unsigned l = 0; l < kLanes; ++l)
            if (lanes[l]) all |= *lanes[l] << l;
        for (unsigned l = 0; l < kLanes; ++l)
            if (lanes[l]) *lanes[l] = all;
    };
    collective(name, mask, votes, together, where);
    return votes;
}

void run(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& thread) {
    [[maybe_unused]] static const bool once = (say_where_at_the_end(), true);
    thread_local Processor own;
    processor = &own;
    Processor& p = own;
    while (p.fibers.size() < threads) p.fibers.push_back(std::make_unique<Fiber>(serve));
    p.waiting.resize(p.fibers.size());
    p.random.state = (device().seed + 0x9e3779b97f4a7c15u * ++p.launches) | 1;
    p.thread = &thread;
    // Of the exact size, so that AddressSanitizer sees what goes beyond.
    void* shared = nullptr;
    if (posix_memalign(&shared, 128, std::max<size_t>(shared_bytes, 1)) != 0) throw std::bad_alloc();
    const std::unique_ptr<void, void (*)(void*)> owner(shared, [](void* memory) {
        this_processor().shared = nullptr;
        std::free(memory);
    });
    p.shared = static_cast<std::byte*>(shared);
    gridDim = {grid.x, grid.y, grid.z};
    blockDim = {threads, 1, 1};
    std::vector<uint64_t> order(uint64_t{grid.x} * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0);
    for (uint64_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[p.random.next() % i]);
    for (const uint64_t block : order) {
        std::memset(shared, 0xff, shared_bytes);
        blockIdx = {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                    static_cast<unsigned>(block / grid.x / grid.y)};
        run_block(threads);
    }
}

}  // namespace emulated
