// A fixed team of threads that sleeps between calls. No OpenMP, no spinning: the extractor's threads run next.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
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

    int size() const { return static_cast<int>(team_->workers.size()) + 1; }
    // Runs task(0) … task(size() - 1), the first on the caller's thread, as it computes, the others in
    // StandardArithmetic, and returns when all have ended; the first exception is thrown again. Not re-entrant, one
    // caller at a time. In a fork of the process that made it there are no threads to wait for: std::runtime_error.
    void run(const std::function<void(int)>& task);
    // Throws that error. For whoever takes a lock before `run`: in a fork its owner may be a thread that isn't there.
    void check_process() const;

 private:
    void stop();
    void work(int index);
    void perform(int index);

    bool forked() const;

    // What threads hold or wait on. A fork leaks it: threads that aren't there can't be joined or detached, and a
    // condition variable that they waited on at the fork can't be destroyed.
    struct Team {
        std::vector<std::thread> workers;
        std::mutex mutex;
        std::condition_variable wake, done;
        const std::function<void(int)>* task = nullptr;
        std::exception_ptr failure;
        uint64_t round = 0;
        int pending = 0;
        bool stopping = false;
    };
    std::unique_ptr<Team> team_ = std::make_unique<Team>();
    const int process_;
};

}  // namespace spadeline
