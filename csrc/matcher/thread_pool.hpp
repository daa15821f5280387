// A fixed team of threads that sleeps between calls. No OpenMP, no spinning: the extractor's threads run next.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spadeline {

class ThreadPool {
 public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return static_cast<int>(workers_.size()) + 1; }
    // Runs task(0) … task(size() - 1), the first on the caller's thread, and returns when all have ended; the first
    // exception is thrown again. Not re-entrant, one caller at a time. In a fork of the process that made it there are
    // no threads to wait for: std::runtime_error.
    void run(const std::function<void(int)>& task);

 private:
    void stop();
    void work(int index);
    void perform(int index);

    bool forked() const;

    std::vector<std::thread> workers_;
    const int process_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(int)>* task_ = nullptr;
    std::exception_ptr failure_;
    uint64_t round_ = 0;
    int pending_ = 0;
    bool stopping_ = false;
};

}  // namespace spadeline
