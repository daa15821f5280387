#include "matcher/thread_pool.hpp"

#include <unistd.h>

#include <stdexcept>
#include <utility>

#include "matcher/arithmetic.hpp"

namespace spadeline {

ThreadPool::ThreadPool(int threads) : process_(getpid()) {
    try {
        for (int i = 1; i < threads; ++i) team_->workers.emplace_back([this, i] { work(i); });
    } catch (...) {  // the system is out of threads: the threads that did start must end
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::forked() const { return !team_->workers.empty() && getpid() != process_; }

void ThreadPool::stop() {
    if (forked()) {
        static_cast<void>(team_.release());  // leaked: see `team_`
        return;
    }
    {
        const std::lock_guard lock(team_->mutex);
        team_->stopping = true;
    }
    team_->wake.notify_all();
    for (std::thread& worker : team_->workers) worker.join();
}

void ThreadPool::check_process() const {
    if (forked())
        throw std::runtime_error(
            "matcher: expected the process that opened it, got a fork of it: open a matcher there");
}

void ThreadPool::run(const std::function<void(int)>& task) {
    check_process();
    {
        const std::lock_guard lock(team_->mutex);
        team_->task = &task;
        team_->pending = size();
        ++team_->round;
    }
    team_->wake.notify_all();
    perform(0);
    std::unique_lock lock(team_->mutex);
    team_->done.wait(lock, [this] { return team_->pending == 0; });
    if (team_->failure) std::rethrow_exception(std::exchange(team_->failure, nullptr));
}

void ThreadPool::perform(int index) {
    std::exception_ptr failure;
    try {
        (*team_->task)(index);
    } catch (...) {
        failure = std::current_exception();
    }
    const std::lock_guard lock(team_->mutex);
    if (failure && !team_->failure) team_->failure = std::move(failure);  // the caller rethrows it
    if (--team_->pending == 0) team_->done.notify_one();
}

void ThreadPool::work(int index) {
    const StandardArithmetic arithmetic;
    for (uint64_t seen = 0;;) {
        {
            std::unique_lock lock(team_->mutex);
            team_->wake.wait(lock, [&] { return team_->stopping || team_->round != seen; });
            if (team_->stopping) return;
            seen = team_->round;
        }
        perform(index);
    }
}

}  // namespace spadeline
