// What a test program counts and says: no framework.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

inline std::atomic<int> failures = 0;

inline void expect(bool holds, const std::string& what) {
    constexpr int shown = 20;
    if (holds || failures++ >= shown) return;
    std::printf("failed: %s\n", what.c_str());
}

// `act` must throw an Error; a failure is told as `what`.
template <class Error, class Act>
void expect_thrown(const std::string& what, const Act& act) {
    try {
        act();
        expect(false, "expected to be refused: " + what);
    } catch (const Error&) {
    } catch (const std::exception& error) {
        expect(false, what + ": " + error.what());
    }
}

// Its text must begin with `text`.
template <class Error, class Act>
void expect_refused(const std::string& text, const Act& act) {
    expect_thrown<Error>(text, [&] {
        try {
            act();
        } catch (const Error& error) {
            expect(std::string(error.what()).starts_with(text), "expected: " + text + ", got: " + error.what());
            throw;
        }
    });
}

// What a program of random cases is given: PROGRAM [CASES [SEED]]. With a seed it runs its random cases alone, since
// somebody looks for one that failed.
struct Arguments {
    uint64_t cases, seed;
    bool random_alone;
};

inline Arguments read_arguments(int count, char** arguments, uint64_t cases) {
    const auto number = [&](int i, uint64_t otherwise) {
        return count > i ? std::strtoull(arguments[i], nullptr, 10) : otherwise;
    };
    const Arguments read{number(1, cases), number(2, 1), count > 2};
    std::printf("%llu cases from seed %llu on\n", static_cast<unsigned long long>(read.cases),
                static_cast<unsigned long long>(read.seed));
    return read;
}

// The exit status, for main to return.
inline int report() {
    std::printf("%d failed\n", failures.load());
    return failures != 0;
}
