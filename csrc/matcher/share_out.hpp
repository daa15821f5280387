// Hands out pieces of work to a team of threads, or to the caller's thread alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

#include "matcher/thread_pool.hpp"

namespace spadeline {

// Hands out 0 … count - 1 as work(worker, first, number): at most `most` at a time and fewer towards the end, so that
// no worker is idle while another one has a long piece of work. A worker takes its part of what is left in at least so
// many turns. Once stop() is true, no more is handed out.
template <class Work, class Stop>
void share_out(ThreadPool* pool, int64_t count, int64_t most, const Work& work, const Stop& stop, int64_t turns = 4) {
    const int64_t workers = pool ? pool->size() : 1;
    std::atomic<int64_t> next = 0;
    const auto take = [&](int worker) {
        for (int64_t first = next; first < count && !stop();) {
            const int64_t number = std::clamp<int64_t>((count - first) / (turns * workers), 1, most);
            if (!next.compare_exchange_weak(first, first + number)) continue;
            work(worker, first, number);
            first = next;
        }
    };
    if (pool) {
        pool->run(std::ref(take));
    } else {
        take(0);
    }
}

// One at a time, as work(worker, i).
template <class Work>
void share_out(ThreadPool* pool, int64_t count, const Work& work) {
    share_out(pool, count, 1, [&](int worker, int64_t i, int64_t) { work(worker, i); }, [] { return false; });
}

}  // namespace spadeline
