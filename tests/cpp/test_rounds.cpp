// Compares what the rounds say of a frame with its whole map, over random pyramids, thresholds and deadlines.
//
//     test_rounds [CASES [SEED]]      test_rounds 10000: the fuzz run; test_rounds 1 SEED: a case that failed
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "matcher/heatmap.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

using namespace spadeline;

namespace {

int64_t shortened = 0, undecided = 0;  // goals that took fewer distances than the whole map; that time ended

struct Maps {
    std::vector<float> upper, lower;
};

// A case's map: its size is the distances' or twice that, so that what is ignored is known without rounding.
class Mapped {
 public:
    Mapped(const Case& c, const Kernels& kernels, bool root, int64_t scale, double sigma)
        : case_(c),
          question_(c.questions[0]),
          root_(root),
          size_{c.shape.levels()[0].height * scale, c.shape.levels()[0].width * scale},
          ignore_(ignored(scale)),
          heatmap_(kernels, {size_.height / scale, size_.width / scale}, size_, sigma,
                   question_.ignore.empty() ? nullptr : ignore_.data(),
                   question_.ignore.empty() ? nullptr : question_.ignore.data()) {}

    std::vector<float> of(const std::vector<double>& distances) const {
        std::vector<float> values(distances.size()), map(size_.height * size_.width);
        map_values(distances.data(), static_cast<int64_t>(distances.size()), root_,
                   question_.ignore.empty() ? nullptr : question_.ignore.data(), values.data());
        AlignedBuffer<float> workspace;
        heatmap_.make(values.data(), map.data(), workspace.reserve(heatmap_.floats()), nullptr);
        return map;
    }

    Outcome inspect(Matcher& matcher, Need need, float normal, float anomalous, Expiry expiry, Maps& maps) const {
        maps.upper.assign(size_.height * size_.width, -1);
        maps.lower.assign(size_.height * size_.width, -1);
        Answer answer;
        return matcher.inspect(
            request_for(case_, question_, kGuardShare, answer),
            {&heatmap_, need, root_, normal, anomalous, expiry, maps.upper.data(), maps.lower.data()});
    }

 private:
    std::vector<uint8_t> ignored(int64_t scale) const {
        std::vector<uint8_t> ignore;
        const int64_t width = size_.width / scale;
        for (int64_t i = 0; i < size_.height * size_.width && !question_.ignore.empty(); ++i)
            ignore.push_back(question_.ignore[i / size_.width / scale * width + i % size_.width / scale]);
        return ignore;
    }

    const Case& case_;
    const Question& question_;
    const bool root_;
    const MapSize size_;
    const std::vector<uint8_t> ignore_;
    const Heatmap heatmap_;
};

float largest(const std::vector<float>& map) { return *std::max_element(map.begin(), map.end()); }

// Whether bounds of a map decide what is needed, and say what the map says.
std::string mistake(const Maps& maps, const std::vector<float>& whole, Need need, float normal, float anomalous,
                    bool decided) {
    for (size_t i = 0; i < whole.size(); ++i) {
        const std::string at = "pixel " + std::to_string(i) + ": " + std::to_string(maps.lower[i]) + " to " +
                               std::to_string(maps.upper[i]) + ", the map has " + std::to_string(whole[i]);
        if (!(maps.lower[i] <= whole[i] && whole[i] <= maps.upper[i])) return at;
        for (const float theta : {normal, anomalous})
            if (decided && need == Need::mask && (maps.upper[i] > theta) != (whole[i] > theta)) return "mask, " + at;
        if (decided && need == Need::map && maps.upper[i] != whole[i]) return "map, " + at;
    }
    for (const float theta : {normal, anomalous}) {
        if (decided && (largest(maps.upper) > theta) != (largest(whole) > theta)) return "another label";
        if (!decided && need == Need::label && !(largest(maps.upper) > normal)) return "undecided, yet normal";
    }
    return "";
}

struct Countdown {
    mutable std::atomic<int64_t> left;
};

bool passed(const void* clock) { return static_cast<const Countdown*>(clock)->left-- <= 0; }

void check(const Case& c) {
    Random random(c.seed);
    const auto available = available_kernels();
    const Codes codes = encode(c, *available[c.seed % available.size()]);
    const bool root = random.one_in(2);
    const int64_t scale = random.upto(2);
    const double sigma = random.one_in(3) ? 0 : 3 * random.uniform();
    for (const Kernels* kernels : available) {
        const std::string name = "test_rounds 1 " + std::to_string(c.seed) + ": " + kernels->name + ", " +
                                 text_of(c, c.questions[0]) + ", " + std::to_string(c.threads) + " threads, ";
        try {
            Matcher matcher(c.shape, gallery_of(c, &codes), c.threads, kernels->name, c.upsampling);
            const Mapped mapped(c, *kernels, root, scale, sigma);
            const Answer answer = ask(matcher, c, c.questions[0]);
            const std::vector<float> whole = mapped.of(answer.distances);
            for (int draw = 0; draw < 5; ++draw) {
                const float value =
                    random.one_in(4) ? largest(whole) : whole[random.below(static_cast<int64_t>(whole.size()))];
                const float below = std::nextafter(value, -1.0f), above = std::nextafter(value, INFINITY);
                const float far = 4 * largest(whole) + 1;  // the first round may do
                const float normal = draw == 0 ? below : draw == 1 ? above : draw == 4 ? far : value;
                const float anomalous = draw == 3 ? above : normal;
                for (const Need need : {Need::map, Need::mask, Need::label}) {
                    const std::string text = name + "need " + std::to_string(static_cast<int>(need)) + ", theta " +
                                             std::to_string(normal) + ": ";
                    Maps maps;
                    const Outcome outcome = mapped.inspect(matcher, need, normal, anomalous, {}, maps);
                    expect(outcome.decided, text + "undecided");
                    std::string wrong = mistake(maps, whole, need, normal, anomalous, true);
                    expect(wrong.empty(), text + wrong);
                    shortened += outcome.statistics.counts.exact < answer.statistics.counts.exact;
                    for (int64_t asks = 0; asks < 200; asks = asks * 3 + random.upto(3)) {
                        const Countdown countdown{asks};
                        const Outcome ended =
                            mapped.inspect(matcher, need, normal, anomalous, {passed, &countdown}, maps);
                        wrong = mistake(maps, whole, need, normal, anomalous, ended.decided);
                        expect(wrong.empty(), text + "time is up after " + std::to_string(asks) + " looks: " + wrong);
                        undecided += !ended.decided;
                    }
                }
            }
        } catch (const std::exception& error) {
            expect(false, name + error.what());
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const int64_t cases = argc > 1 ? std::atoll(argv[1]) : 12;
    const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
    for (int64_t i = 0; i < cases; ++i) check(random_case(seed + static_cast<uint64_t>(i)));
    if (cases >= 10) {
        expect(shortened > 0, "no goal took fewer distances than the whole map");
        expect(undecided > 0, "no deadline ended a search");
    }
    return report();
}
