// Calls of the matcher: a batch gives the results that its queries give alone; callers on several threads take turns;
// an error names what is refused, and the matcher works as before.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "support/arithmetic.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

using namespace spadeline;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

bool same(const Answer& a, const Answer& b) { return a.distances == b.distances && a.neighbours == b.neighbours; }

std::vector<Answer> ask_alone(Matcher& matcher, const Case& c, double guard_share) {
    std::vector<Answer> answers;
    for (const Question& q : c.questions) answers.push_back(ask(matcher, c, q, guard_share));
    return answers;
}

std::vector<Answer> ask_batch(Matcher& matcher, const Case& c, double guard_share) {
    std::vector<Answer> answers(c.questions.size());
    std::vector<Request> requests;
    for (size_t i = 0; i < answers.size(); ++i)
        requests.push_back(request_for(c, c.questions[i], guard_share, answers[i]));
    std::vector<Statistics> statistics(answers.size());
    matcher.match_batch(requests, statistics);
    for (size_t i = 0; i < answers.size(); ++i) answers[i].statistics = statistics[i];
    return answers;
}

// Queries of a batch have their own images, kappa, window and mask.
void check_batches(uint64_t cases) {
    for (uint64_t seed = 1; seed <= cases; ++seed) {
        const Case c = random_case(seed, static_cast<int64_t>(seed % 6));
        const Codes codes = encode(c, *available_kernels().back());
        for (const Kernels* kernels : available_kernels())
            for (const double guard_share : {0.0, kGuardShare}) {
                Matcher matcher(c.shape, gallery_of(c, &codes), c.threads, kernels->name, c.upsampling);
                const auto alone = ask_alone(matcher, c, guard_share), batch = ask_batch(matcher, c, guard_share);
                const std::string name = std::string(kernels->name) + ", seed " + std::to_string(seed);
                for (size_t i = 0; i < alone.size(); ++i) {
                    const Counts &a = alone[i].statistics.counts, &b = batch[i].statistics.counts;
                    expect(same(alone[i], batch[i]), name + ": query " + std::to_string(i) + " of a batch differs");
                    expect(a.pairs == b.pairs && a.exact == b.exact && a.passed[0] == b.passed[0] &&
                               alone[i].statistics.guarded_cells == batch[i].statistics.guarded_cells,
                           name + ": statistics of query " + std::to_string(i) + " of a batch differ");
                }
            }
    }
}

// Several threads call one matcher, with single queries and batches.
void check_callers(uint64_t cases) {
    for (uint64_t seed = 1; seed <= cases; ++seed) {
        const Case c = random_case(seed, 3);
        const Codes codes = encode(c, *available_kernels().front());
        Matcher matcher(c.shape, gallery_of(c, &codes), 2, "auto", c.upsampling);
        const auto expected = ask_alone(matcher, c, kGuardShare);
        const auto call = [&](size_t first) {
            for (size_t i = 0; i < 12; ++i) {
                const size_t q = (first + i) % expected.size();
                if (i % 4 < 3) {
                    expect(same(ask(matcher, c, c.questions[q]), expected[q]),
                           "one of several callers got another answer");
                    continue;
                }
                const auto batch = ask_batch(matcher, c, kGuardShare);
                for (size_t j = 0; j < batch.size(); ++j)
                    expect(same(batch[j], expected[j]), "one of several callers got another batch");
            }
        };
        std::vector<std::thread> callers;
        for (size_t i = 0; i < 4; ++i) callers.emplace_back(call, i);
        for (std::thread& caller : callers) caller.join();
    }
}

// Answers don't depend on how the caller's thread treats denormals, roundings and traps, nor on when the workers
// started. The call restores the caller's environment.
void check_arithmetic(uint64_t cases) {
    for (uint64_t seed = 1; seed <= cases; ++seed)
        for (const Values values : {Values::denormal, Values::vanishing, Values::normal}) {
            const Case c = random_case(seed, 1 + static_cast<int64_t>(seed % 5), {}, values);
            const auto answers = [&](const Kernels& kernels) {
                const Codes codes = encode(c, kernels);
                Matcher matcher(c.shape, gallery_of(c, seed % 2 ? &codes : nullptr), c.threads, kernels.name,
                                c.upsampling);
                auto all = ask_alone(matcher, c, kGuardShare);
                for (Answer& answer : ask_batch(matcher, c, kGuardShare)) all.push_back(std::move(answer));
                return all;
            };
            for (const Kernels* kernels : available_kernels()) {
                const auto expected = answers(*kernels);
                const std::string mistake = Naive(c, c.questions[0]).mistake(expected[0]);
                expect(mistake.empty(), "seed " + std::to_string(seed) + ": " + mistake);
                for (const uint64_t control : other_arithmetic()) {
                    const uint64_t own = set_arithmetic(control);
                    const auto got = answers(*kernels);
                    const uint64_t left = set_arithmetic(own);
                    expect(left == control, "the caller's floating-point environment was changed");
                    for (size_t i = 0; i < got.size(); ++i)
                        expect(same(got[i], expected[i]), std::string(kernels->name) + ", seed " +
                                                              std::to_string(seed) + ": another answer in control " +
                                                              std::to_string(control));
                }
            }
        }
}

// A call that ends with an error restores the caller's environment as well.
void check_arithmetic_after_an_error() {
    Case c = random_case(1, 1, {}, Values::normal);
    Matcher matcher(c.shape, gallery_of(c, nullptr), 2, "auto", c.upsampling);
    c.questions[0].query[0].values[0] = kNan;
    c.questions[0].views[0] = {c.questions[0].query[0].values.data(), Storage::float32};
    const uint64_t control = other_arithmetic().front(), own = set_arithmetic(control);
    bool named = false;
    try {
        ask(matcher, c, c.questions[0]);
    } catch (const NotFinite&) {
        named = true;
    }
    const uint64_t left = set_arithmetic(own);
    expect(named && left == control, "an error changed the caller's floating-point environment");
}

// A bad feature may be in any query of a batch, on any path: the call names it, and the next call is right.
void check_features_that_are_not_finite(uint64_t cases) {
    Random random(4);
    for (uint64_t seed = 1; seed <= cases; ++seed) {
        Case c = random_case(seed, 1 + static_cast<int64_t>(seed % 5));
        const Codes codes = encode(c, *available_kernels().front());
        Matcher matcher(c.shape, gallery_of(c, seed % 3 ? &codes : nullptr), c.threads, "auto", c.upsampling);
        const auto expected = ask_batch(matcher, c, kGuardShare);
        const auto query = random.below(static_cast<int64_t>(c.questions.size())),
                   l = random.below(c.shape.level_count());
        const LevelShape& level = c.shape.levels()[l];
        Map& map = c.questions[query].query[l];
        const int64_t at = random.below(static_cast<int64_t>(map.values.size()));
        const float bad = seed % 2 ? kNan : seed % 4 ? kInfinity : -kInfinity;
        const Map original = map;
        if (map.halves.empty()) {
            map.values[at] = bad;
        } else {
            map.halves[at] = std::isnan(bad) ? 0x7e01 : bad > 0 ? 0x7c00 : 0xfc00;
        }
        const auto expect_named = [&](int64_t asked, const auto& call) {
            try {
                call();
                expect(false, "seed " + std::to_string(seed) + ": a feature that isn't finite was matched");
            } catch (const NotFinite& named) {
                const int64_t pixel = named.y * level.width + named.x;
                expect(named.level == l && named.query == asked && named.x < level.width &&
                           named.channel * level.height * level.width + pixel == at,
                       "seed " + std::to_string(seed) + ": named query " + std::to_string(named.query) + ", level " +
                           std::to_string(named.level) + ", channel " + std::to_string(named.channel));
            }
        };
        expect_named(query, [&] { ask_batch(matcher, c, kGuardShare); });
        expect_named(0, [&] { ask(matcher, c, c.questions[query]); });
        map = original;
        c.questions[query].views[l].data = map.data();
        const auto again = ask_batch(matcher, c, kGuardShare);
        for (size_t i = 0; i < again.size(); ++i) expect(same(again[i], expected[i]), "another answer after an error");
    }
}

void check_galleries_that_are_not_finite(uint64_t cases) {
    for (uint64_t seed = 1; seed <= cases; ++seed) {
        Case c = random_case(seed);
        c.questions[0].ignore.clear();
        c.storage = Storage::float32;
        for (Map& map : c.cells) {
            map.halves.clear();
            std::fill(map.values.begin(), map.values.end(), seed % 2 ? kNan : kInfinity);
        }
        const Codes codes = encode(c, *available_kernels().front());
        for (const Kernels* kernels : available_kernels())
            for (const Codes* used : {static_cast<const Codes*>(nullptr), &codes}) {
                Matcher matcher(c.shape, gallery_of(c, used), c.threads, kernels->name, c.upsampling);
                expect_refused<std::runtime_error>("gallery: expected finite features, got NaN or infinity",
                                                   [&] { ask(matcher, c, c.questions[0]); });
            }
    }
}

void check_refusals() {
    using Invalid = std::invalid_argument;
    const auto open = [](int64_t size, const std::vector<LevelKind>& levels, const std::string& instruction_set) {
        const std::vector<const void*> data(levels.size());
        const std::vector<double> weights(levels.size(), 1);
        Matcher(PyramidShape(size, size, levels), {1, Storage::float32, data, weights, {}}, 1, instruction_set,
                Upsampling::nearest);
    };
    expect_refused<Invalid>("levels: expected at least one, got none", [&] { open(1, {}, "auto"); });
    expect_refused<Invalid>(
        "levels: expected channels, and halvings that begin with 0 and increase, got 1 channels "
        "and 1 halvings at level 2",
        [&] { open(5, {{1, 0}, {1, 1}, {1, 1}}, "auto"); });
    expect_refused<Invalid>(
        "levels: expected channels, and halvings that begin with 0 and increase, got 0 channels "
        "and 0 halvings at level 0",
        [&] { open(5, {{0, 0}}, "auto"); });
    expect_refused<Invalid>("levels: expected 1 to 4, got 5",
                            [&] { open(16, {{1, 0}, {1, 1}, {1, 2}, {1, 3}, {1, 4}}, "auto"); });
    expect_refused<Invalid>("levels: expected a finest level of 1 to 2^31 - 1 positions, got 65536 x 65536",
                            [&] { open(1 << 16, {{1, 0}}, "auto"); });
    expect_refused<Invalid>("instruction_set: expected one that this machine runs (auto, ",
                            [&] { open(1, {{1, 0}}, "mmx"); });
}

// `run` throws what a task throws, after all tasks have ended. The pool then works as before.
void check_the_pool() {
    ThreadPool pool(3);
    for (int round = 0; round < 20; ++round) {
        std::atomic<int> ended = 0;
        expect_refused<std::runtime_error>("task", [&] {
            pool.run([&](int index) {
                ++ended;
                if (index == round % 3) throw std::runtime_error("task");
            });
        });
        expect(ended == pool.size(), "a task was still running");
        pool.run([&](int) { ++ended; });
        expect(ended == 2 * pool.size(), "a task didn't run");
    }
}

}  // namespace

int main(int count, char** arguments) {
    const uint64_t cases = read_arguments(count, arguments, 14).cases;
    check_batches(cases);
    check_callers(std::min<uint64_t>(cases, 8));
    check_arithmetic(cases / 8 + 1);
    check_arithmetic_after_an_error();
    check_features_that_are_not_finite(cases + cases / 2);
    check_galleries_that_are_not_finite(cases / 4);
    check_refusals();
    check_the_pool();
    return report();
}
