// Compares every path and instruction set with a naive float64 matcher, over random pyramids and a large one.
//
//     test_matcher [CASES [SEED]]      test_matcher 10000: the fuzz run; test_matcher 1 SEED: a case that failed
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>

#include "matcher/cpu/kernels.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

using namespace spadeline;

namespace {

int64_t pairs_of_all, passed_of_all;  // of calls that give nothing up: pairs of cells; those that passed

constexpr double kEverything = std::numeric_limits<double>::infinity();

std::string name_of(const Case& c, const Question& q, const char* instruction_set, const std::string& path) {
    return "test_matcher 1 " + std::to_string(c.seed) + ": " + instruction_set + ", " + path + ", " + text_of(c, q) +
           ", " + std::to_string(c.threads) + " threads: ";
}

// Compares an answer with the naive one and, to the last bit, with the dense path's.
Answer check(Matcher& matcher, const Case& c, const Naive& naive, double guard_share, bool pruned,
             const std::string& name, const Answer* dense) {
    try {
        Answer answer = ask(matcher, c, c.questions[0], guard_share);
        const std::string mistake = naive.mistake(answer);
        const std::string miscount = naive.miscount(answer.statistics, pruned, guard_share);
        expect(mistake.empty(), name + mistake);
        expect(miscount.empty(), name + miscount);
        expect(!dense || (answer.distances == dense->distances && answer.neighbours == dense->neighbours),
               name + "differs from the dense path");
        if (guard_share == kEverything) {
            pairs_of_all += answer.statistics.counts.pairs;
            passed_of_all += answer.statistics.counts.passed[c.shape.level_count() - 1];
        }
        return answer;
    } catch (const std::exception& error) {
        expect(false, name + error.what());
        return {};
    }
}

// Codes of one instruction set are read by another: a recipe stores them, and may be opened on another machine.
void check(const Case& c) {
    const Question& q = c.questions[0];
    const Naive naive(c, q);
    const auto available = available_kernels();
    const Codes codes = encode(c, *available[c.seed % available.size()]);
    for (const Kernels* kernels : available) {
        Matcher dense(c.shape, gallery_of(c, nullptr), c.threads, kernels->name, c.upsampling);
        const Answer expected =
            check(dense, c, naive, kGuardShare, false, name_of(c, q, kernels->name, "dense"), nullptr);
        Matcher matcher(c.shape, gallery_of(c, &codes), c.threads, kernels->name, c.upsampling);
        for (const double guard_share : {0.0, kGuardShare, kEverything})
            check(matcher, c, naive, guard_share, c.upsampling == Upsampling::nearest,
                  name_of(c, q, kernels->name, "guard share " + std::to_string(guard_share)), &expected);
    }
}

// A case with more bounds than may exist at once, and with cells that go on with what others left of their budgets.
Case large_case() {
    Random random(1);
    const PyramidShape shape(63, 50, {{3, 0}, {24, 1}});
    Case c{0, shape, 7, Storage::float32, Upsampling::nearest, 2, false, {1, 1}, {}, {}, {}, {}};
    const std::vector<Values> values = {Values::smooth, Values::smooth};
    for (int64_t l = 0; l < 2; ++l) {
        const LevelShape& level = shape.levels()[l];
        c.gallery.push_back(random_map(random, values[l], level, c.images));
        c.cells.push_back(to_cells(shape, l, c.gallery[l], c.images));
        c.bases.push_back(random_basis(random, c.cells[l].values, level.channels, 16 * l));
    }
    Question q = random_question(random, c, values);
    q.ids = {6, 5, 4, 3, 2, 1, 0};
    q.kappa = 3;
    q.window = std::nullopt;
    q.ignore.clear();
    c.questions.push_back(std::move(q));
    return c;
}

// Coarse features whose products overflow, at a few positions between zeros. Their taps have weights so small that the
// upsampled features don't overflow. All pairs are wanted, so that none may be dropped.
Case brink_case(uint64_t seed) {
    Random random(seed);
    const int64_t height = 8 + random.upto(12), width = 8 + random.upto(12);
    std::vector<LevelKind> levels;
    for (const int shift : {0, 1, 3 + static_cast<int>(random.below(2))})
        if (shift != 1 || random.one_in(2)) levels.push_back({random.upto(3), shift});
    Case c = random_case(seed, 1, PyramidShape(height, width, levels), Values::normal);
    c.upsampling = Upsampling::bilinear;
    Question& q = c.questions[0];
    const size_t l = levels.size() - 1;
    const double size = std::exp2(62.5 + 3 * random.uniform()) / std::sqrt(c.weights[l]);
    const auto scatter = [&](std::vector<float>& values, double factor) {
        std::fill(values.begin(), values.end(), 0.0f);
        for (int64_t i = random.upto(2); i > 0; --i)
            values[random.below(static_cast<int64_t>(values.size()))] = static_cast<float>(factor * size);
    };
    scatter(c.gallery[l].values, 1);
    c.cells[l] = to_cells(c.shape, l, c.gallery[l], c.images);
    const auto floats = static_cast<int64_t>(q.query[l].values.size());
    if (random.one_in(3)) {
        scatter(q.query[l].values, -1);
    } else {
        for (int64_t i = 0; i < floats; ++i) q.query[l].values[i] = -c.gallery[l].values[q.ids[0] * floats + i];
    }
    q.query[l].halves.clear();
    q.views[l] = {q.query[l].data(), Storage::float32};
    c.exact = false;
    q.ids.resize(1);
    q.kappa = c.shape.reachable(q.window);
    return c;
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 16);
    std::printf("instruction sets:");
    for (const Kernels* kernels : available_kernels()) std::printf(" %s", kernels->name);
    std::printf("\n");
    if (!random_alone) check(large_case());
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) {
        check(random_case(i));
        check(brink_case(i));
        if ((i - seed + 1) % 1000 == 0) {  // about every ten minutes
            std::printf("%" PRIu64 " cases, %d failures\n", i - seed + 1, failures.load());
            std::fflush(stdout);
        }
    }
    std::printf("%" PRId64 " of %" PRId64 " pairs of cells were looked into\n", passed_of_all, pairs_of_all);
    expect(random_alone || passed_of_all < pairs_of_all / 2, "bounds rule hardly anything out");
    return report();
}
