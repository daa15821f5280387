// A fixed team of threads that sleeps between calls. Neither OpenMP nor spinning: both would take processors from the
// extractor's threads, which run next.
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
    // Runs task(0) … task(size() - 1) and returns when all have ended. The first task runs on the caller's thread and
    // in its floating-point environment, the others in StandardArithmetic. The first exception is thrown again. Not
    // re-entrant; one caller at a time. Throws std::runtime_error in a fork of the process that made the pool, since a
    // fork has none of its threads.
    void run(const std::function<void(int)>& task);
    // Throws that error. A caller that takes a lock before `run` checks first: in a fork the lock's owner may be a
    // thread that doesn't exist there.
    void check_process() const;

 private:
    void stop();
    void work(int index);
    void perform(int index);

    bool forked() const;

    // What threads hold or wait on. A fork leaks it: its threads don't exist there, so that they can be neither joined
    // nor detached, and a condition variable that they waited on can't be destroyed.
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
