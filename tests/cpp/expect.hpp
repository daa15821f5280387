// How a test program counts failures and reports them, without a framework.
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

// Expects `act` to throw an Error. `what` names the case in a failure's message.
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

// Expects `act` to throw an Error whose text begins with `text`.
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

// The arguments of a program that runs random cases: PROGRAM [CASES [SEED]]. With a seed it runs random cases only, to
// repeat one that failed.
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
