#include "matcher/thread_pool.hpp"

#include <unistd.h>

#include <stdexcept>
#include <utility>

namespace spadeline {

ThreadPool::ThreadPool(int threads) : process_(getpid()) {
    try {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {  // the system is out of threads: end those that started, then say so
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::forked() const { return !workers_.empty() && getpid() != process_; }

void ThreadPool::stop() {
    if (forked()) {  // the threads stayed in the other process; joining them would never end
        for (std::thread& worker : workers_) worker.detach();
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(const std::function<void(int)>& task) {
    if (forked())
        throw std::runtime_error("matcher: expected the process that opened it, got a fork: open it there anew");
    {
        const std::lock_guard lock(mutex_);
        task_ = &task;
        pending_ = size();
        ++round_;
    }
    wake_.notify_all();
    perform(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_ == 0; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::perform(int index) {
    std::exception_ptr failure;
    try {
        (*task_)(index);
    } catch (...) {
        failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    if (failure && !failure_) failure_ = std::move(failure);  // the caller's alone from here on
    if (--pending_ == 0) done_.notify_one();
}

void ThreadPool::work(int index) {
    for (uint64_t seen = 0;;) {
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
            if (stopping_) return;
            seen = round_;
        }
        perform(index);
    }
}

}  // namespace spadeline
