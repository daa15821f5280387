// Retrieval, the frame check's limits and the label rule: by their definitions.
//
//     test_verdict [CASES [SEED]]      test_verdict 1 SEED: a case that failed
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "matcher/arithmetic.hpp"
#include "runtime/frame_check.hpp"
#include "runtime/retrieval.hpp"
#include "runtime/verdict.hpp"
#include "support/expect.hpp"
#include "support/features.hpp"

using namespace spadeline;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_retrieval(uint64_t seed) {
    Random random(seed);
    const int64_t count = random.upto(60), size = random.upto(random.one_in(2) ? 3 : 700);
    const bool ties = random.one_in(2);
    std::vector<float> embeddings;
    for (int64_t i = 0; i < count * size; ++i)
        embeddings.push_back(ties ? static_cast<float>(random.below(2)) : static_cast<float>(random.normal() + 3));
    Retrieval retrieval(embeddings.data(), count, size);
    const int64_t k = random.upto(count + 3), first = random.below(count);
    const ImageRange exclude{first, first + random.below(4)};  // none, one or several
    const float* query = retrieval.row(random.below(count));
    std::vector<NearImage> expected;
    for (int64_t i = 0; i < count; ++i) {
        double sum = 0;
        for (int64_t c = 0; c < size; ++c) sum += std::pow(static_cast<double>(retrieval.row(i)[c] - query[c]), 2);
        const float squared = squared_distance(retrieval.row(i), query, size);
        expect(std::abs(squared - sum) <= sum * 1e-7, "seed " + std::to_string(seed) + ": distance " +
                                                          std::to_string(squared) + ", not " + std::to_string(sum));
        if (!exclude.contains(i)) expected.push_back({squared, i});
    }
    std::sort(expected.begin(), expected.end());
    expected.resize(std::min<int64_t>(k, static_cast<int64_t>(expected.size())));
    const auto got = retrieval.nearest(query, k, exclude);
    expect(std::equal(got.begin(), got.end(), expected.begin(), expected.end()),
           "seed " + std::to_string(seed) + ": other images than by definition");
}

void check_refused_embeddings() {
    const float largest = largest_embedding(8);
    std::vector<float> embeddings(16, 1);
    Retrieval retrieval(embeddings.data(), 2, 8);
    const auto refused = [&](float value, const std::string& came) {
        std::vector<float> query(8, 1);
        query[5] = value;
        expect_refused<std::invalid_argument>(
            "embedding: expected numbers from -1.63e+18 to 1.63e+18, whose squared distances float32 holds, got " +
                came,
            [&] { retrieval.nearest(query.data(), 1); });
    };
    refused(std::nanf(""), "nan");
    refused(-std::numeric_limits<float>::infinity(), "-inf");
    refused(std::nextafter(largest, 2 * largest), "1.63e+18");
    check_embeddings("embedding", std::vector<float>(8, largest), 8);
}

void check_farthest() {
    const std::vector<float> embeddings{0, 1, 3, 10};
    Retrieval retrieval(embeddings.data(), 4, 1), single(embeddings.data(), 1, 1);
    const std::vector<ImageRange> families{{0, 1}, {1, 2}, {2, 3}, {3, 4}}, turned{{0, 2}, {2, 4}};
    expect(farthest_nearest(retrieval, families) == 49, "the farthest image's nearest");
    expect(farthest_nearest(retrieval, turned) == 9, "the nearest one of another family");
    expect(!farthest_nearest(single, std::span(families).first(1)), "a single image has none");
    expect(compared_images(3) == std::vector<int64_t>{0, 1, 2}, "few images are compared all");
    const auto many = compared_images(1001);
    expect(many.size() == 200 && many.front() == 0 && many.back() == 1000, "many images are compared in part");
    expect(image_score(retrieval.nearest(embeddings.data(), 3), false) == 10.0 / 3, "the mean of three");
    expect(image_score(retrieval.nearest(embeddings.data() + 3, 2, {3, 4}), true) == std::sqrt(65), "its root");
}

void check_rule(LabelRule rule, double image, double map, bool dark, double score, std::vector<Reason> reasons) {
    const std::vector<FrameFacts> facts{{100, 30, 2}, {120, 40, 1.5}};
    const Judge judge(rule, 2, 4, FrameLimits::of(facts, 8.0));
    const Known known{image, 3, FrameFacts{dark ? 25.0 : 100.0, 30, 1.5}};
    const Verdict verdict = judge.verdict(known, map);
    Reasons expected;
    for (const Reason reason : reasons) expected.add(reason);
    const std::string name = "rule " + std::to_string(static_cast<int>(rule)) + ", image " + std::to_string(image) +
                             ", map " + std::to_string(map) + ": ";
    expect(verdict.reasons == expected, name + "reasons " + std::to_string(verdict.reasons.bits()));
    expect(verdict.pred_score == score, name + "score " + std::to_string(verdict.pred_score));
    const double threshold = rule == LabelRule::image ? 2 : rule == LabelRule::map ? 4 : 1;
    expect((verdict.pred_score > threshold) == verdict.reasons.any(), name + "the score doesn't tell the label");
    const bool known_without = rule == LabelRule::image || dark || (rule == LabelRule::either && image > 2);
    expect(judge.label_known(known) == known_without, name + "whether the label is known");
}

void check_rules() {
    const double dim = 100 / kBeyond / 25;
    check_rule(LabelRule::map, 9, 4, false, 4, {});
    check_rule(LabelRule::map, 9, 5, false, 5, {Reason::map});
    check_rule(LabelRule::map, 9, 5, true, 5, {Reason::map, Reason::exposure});
    check_rule(LabelRule::map, 9, 3, true, 4 * dim, {Reason::exposure});
    check_rule(LabelRule::image, 2, 9, false, 2, {});
    check_rule(LabelRule::image, 3, 9, false, 3, {Reason::image});
    check_rule(LabelRule::image, 1, 9, true, 2 * dim, {Reason::exposure});
    check_rule(LabelRule::either, 1, 2, false, 0.5, {});
    check_rule(LabelRule::either, 3, 2, false, 1.5, {Reason::image});
    check_rule(LabelRule::either, 3, 8, false, 2, {Reason::map, Reason::image});
    check_rule(LabelRule::either, 1, 2, true, dim, {Reason::exposure});
    // Thresholds of 0, and limits without likeness.
    const Judge zero(LabelRule::either, 0, 0, std::nullopt);
    const Known none{0, 0, std::nullopt};
    expect(zero.verdict(none, 0).pred_score == 0, "nothing above thresholds of 0");
    expect(zero.verdict(none, 100).pred_score == std::numeric_limits<double>::max(), "a finite score");
    expect(Judge(LabelRule::map, 1, 0, std::nullopt).verdict(none, 1e-320).reasons.has(Reason::map), "a tiny map");
    const FrameLimits limits = FrameLimits::of(std::vector<FrameFacts>{{0, 0, 0}}, std::nullopt);
    expect(limits.excess({0, 0, 0}, kInfinity) == Excess{0, kMostExcess, 0, 0}, "a black frame among black ones");
    for (const Reason reason : kReasons) expect(*name_of(reason) != 0, "a reason without a name");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 300);
    const StandardArithmetic arithmetic;
    if (!random_alone) {
        check_refused_embeddings();
        check_farthest();
        check_rules();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_retrieval(i);
    return report();
}
