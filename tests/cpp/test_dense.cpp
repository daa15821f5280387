// The dense path by itself: shares that split the gallery, lists that hold neighbours already, caps, and expiry.
//
//     test_dense [CASES [SEED]]
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "matcher/aligned.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/sizes.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

using namespace spadeline;

namespace {

using Lists = std::vector<Neighbour>;

constexpr Neighbour kNothing{std::numeric_limits<double>::infinity(), INT32_MAX, INT32_MAX};

bool same(const Neighbour& a, const Neighbour& b) {
    return std::tie(a.distance, a.image, a.raster) == std::tie(b.distance, b.image, b.raster);
}

// A case's first question as the kernels are given it.
class Asked {
 public:
    Asked(const Case& c, const Codes* codes, const Kernels& kernels) : kernels_(kernels) {
        const Question& q = c.questions[0];
        const auto levels = static_cast<size_t>(c.shape.level_count());
        task.level_count = static_cast<int>(levels);
        task.storage = c.storage;
        task.cells = c.shape.cells();
        task.cell_columns = c.shape.cell_columns();
        task.raster = c.shape.raster(0).data();
        task.image_ids = q.ids.data();
        task.image_count = static_cast<int64_t>(q.ids.size());
        task.kappa = q.kappa;
        task.enough = -1;
        task.window = q.window.value_or(kEverywhere);
        for (int64_t i = 0; i < c.shape.positions(0); ++i)
            scored_.push_back(task.raster[i] >= 0 && (q.ignore.empty() || !q.ignore[task.raster[i]]));
        task.scored = scored_.data();
        for (size_t l = 0; l < levels; ++l) {
            const auto at = static_cast<int64_t>(l);
            const LevelShape& shape = c.shape.levels()[l];
            query_.push_back(to_cells(c.shape, at, q.query[l], 1));
            LevelTask& level = task.level[l];
            level = {shape.channels,
                     c.shape.block(at),
                     c.shape.positions(at),
                     shape.shift,
                     c.weights[l],
                     c.cells[l].data(),
                     query_[l].values.data(),
                     nullptr,
                     {},
                     {}};
            if (codes && !codes->rotated[l].empty()) encode(c, *codes, at, level);
        }
    }

    Lists nothing() const { return Lists(scored_.size() * static_cast<size_t>(task.kappa), kNothing); }

    // Matches all cells with the chunks that `next` hands out, and without codes if `plain`.
    bool match(Lists& lists, int64_t& next, bool plain = false) const {
        AlignedBuffer<float> workspace;
        uint8_t without_codes = plain;
        return kernels_.match(task, {0, task.cells, workspace.reserve(kernels_.share_floats(task, 0, task.cells)),
                                     lists.data(), &next, &without_codes});
    }
    bool match(Lists& lists) const {
        int64_t next = 0;
        return match(lists, next);
    }
    bool scored(int64_t position) const { return scored_[static_cast<size_t>(position)]; }

    MatchTask task{};

 private:
    void encode(const Case& c, const Codes& codes, int64_t l, LevelTask& level) {
        const LevelEncoder encoder(kernels_, level.channels, 0, c.bases[l].data());
        const int64_t dims = encoder.book().dims, group = group_size(l + 1 == c.shape.level_count());
        bytes_[l].resize(level.positions * dims);
        terms_[l].resize(level.positions * kTerms);
        sums_[l].resize(level.positions);
        const CodeRows rows{bytes_[l].data(), terms_[l].data(), sums_[l].data()};
        AlignedBuffer<float> workspace;
        kernels_.encode(encoder.book(), level.query, level.positions, rows,
                        workspace.reserve(kernels_.encode_floats(encoder.book())));
        level.rotated = {dims, ceil_div(level.positions, group), encoder.record(group), codes.rotated[l].data(), rows};
    }

    const Kernels& kernels_;
    std::vector<uint8_t> scored_;
    std::vector<Map> query_;
    std::vector<int8_t> bytes_[kMaxLevels];
    std::vector<float> terms_[kMaxLevels];
    std::vector<int32_t> sums_[kMaxLevels];
};

bool equal(const Lists& a, const Lists& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end(), same); }

// Lists that hold neighbours already stay as they are, whether those are all or some.
void check_again(const Asked& asked, const Lists& expected, Random& random, const std::string& name) {
    Lists lists = expected;
    asked.match(lists);
    expect(equal(lists, expected), name + "a second search changes lists");
    const int64_t kappa = asked.task.kappa, kept = random.below(kappa + 1);
    for (size_t i = 0; i < lists.size(); ++i)
        if (static_cast<int64_t>(i) % kappa >= kept) lists[i] = kNothing;
    asked.match(lists);
    expect(equal(lists, expected), name + "a search with " + std::to_string(kept) + " neighbours known differs");
    int64_t next = 0;
    lists = asked.nothing();
    expect(asked.match(lists, next, true) && equal(lists, expected), name + "a search without codes differs");
}

// What isn't farther than its position's cap is found.
void check_caps(Asked& asked, const Lists& expected, Random& random, const std::string& name) {
    const int64_t kappa = asked.task.kappa, positions = static_cast<int64_t>(expected.size()) / kappa;
    std::vector<float> caps(positions);
    for (int64_t i = 0; i < positions; ++i) {
        const double one = expected[i * kappa + random.below(kappa)].distance;
        constexpr double factors[] = {0, 0.5, 1, 1.5};
        caps[i] = std::isfinite(one) ? static_cast<float>(one * factors[random.below(4)]) : 1;
    }
    asked.task.caps = caps.data();
    Lists lists = asked.nothing();
    asked.match(lists);
    asked.task.caps = nullptr;
    for (int64_t i = 0; i < positions; ++i)
        for (int64_t k = 0; k < kappa && expected[i * kappa + k].distance <= double{caps[i]}; ++k)
            expect(!asked.scored(i) || same(lists[i * kappa + k], expected[i * kappa + k]),
                   name + "position " + std::to_string(i) + ": a neighbour within its cap is missing");
}

// A search that expires says so, has found nothing wrong, and can be taken up again.
void check_expiry(Asked& asked, const Lists& expected, Random& random, const std::string& name) {
    struct Clock {
        mutable int64_t left;
    };
    Clock clock{int64_t{1} << 40};
    asked.task.expiry = {[](const void* given) { return static_cast<const Clock*>(given)->left-- <= 0; }, &clock};
    Lists lists = asked.nothing();
    expect(asked.match(lists) && equal(lists, expected), name + "a search that doesn't expire differs");
    const int64_t questions = (int64_t{1} << 40) - clock.left;
    clock.left = random.below(questions);
    lists = asked.nothing();
    expect(!asked.match(lists), name + "a search that expired doesn't say so");
    const int64_t kappa = asked.task.kappa;
    for (size_t i = 0; i < lists.size(); ++i)
        expect(lists[i].distance >= expected[i].distance, name + "an expired search found something too near");
    for (int64_t i = 0; i < static_cast<int64_t>(lists.size()) / kappa; ++i)
        expect(asked.scored(i) || same(lists[i * kappa], kNothing), name + "an unscored position is searched");
    asked.task.expiry = {};
    asked.match(lists);
    expect(equal(lists, expected), name + "a search that is taken up again differs");
}

// Threads that take chunks in turns find, together, what one thread finds.
void check_split(const Asked& asked, const Lists& expected, const std::string& name) {
    constexpr int threads = 3;
    std::vector<Lists> lists(threads, asked.nothing());
    int64_t next = 0;
    {
        std::vector<std::jthread> team;
        for (Lists& own : lists) team.emplace_back([&] { asked.match(own, next); });
    }
    const int64_t kappa = asked.task.kappa;
    for (int64_t i = 0; i < static_cast<int64_t>(expected.size()); i += kappa) {
        Lists all;
        for (const Lists& own : lists) all.insert(all.end(), own.begin() + i, own.begin() + i + kappa);
        std::sort(all.begin(), all.end(), [](const Neighbour& a, const Neighbour& b) {
            return std::tie(a.distance, a.image, a.raster) < std::tie(b.distance, b.image, b.raster);
        });
        expect(std::equal(expected.begin() + i, expected.begin() + i + kappa, all.begin(), same),
               name + "chunks that threads share give other neighbours");
    }
}

void check(const Case& c) {
    const auto available = available_kernels();
    const Codes codes = encode(c, *available[c.seed % available.size()]);
    for (const Kernels* kernels : available) {
        Lists expected;
        for (const Codes* given : {static_cast<const Codes*>(nullptr), &codes}) {
            const std::string name = "test_dense 1 " + std::to_string(c.seed) + ": " + kernels->name +
                                     (given ? ", codes, " : ", features, ") + text_of(c, c.questions[0]) + ": ";
            Random random(c.seed);
            Asked asked(c, given, *kernels);
            Lists lists = asked.nothing();
            expect(asked.match(lists), name + "a search without a deadline expired");
            if (!given) expected = lists;
            expect(equal(lists, expected),
                   name + "the filter from codes finds other neighbours than that from features");
            check_again(asked, expected, random, name);
            check_caps(asked, expected, random, name);
            check_split(asked, expected, name);
            check_expiry(asked, expected, random, name);
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 8);
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) {
        Case c = random_case(i);
        c.upsampling = Upsampling::nearest;
        check(c);
    }
    return report();
}
