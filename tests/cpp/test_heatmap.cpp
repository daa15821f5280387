// The CPU's anomaly map, over random sizes and masks: against its formula in float64, and that it is monotone, the same
// on all instruction sets that round a multiply-add once, and the same for any number of threads.
//
//     test_heatmap [CASES [SEED]]      test_heatmap 1 SEED: a case that failed
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "matcher/heatmap.hpp"
#include "support/arithmetic.hpp"
#include "support/expect.hpp"
#include "support/heatmaps.hpp"

using namespace spadeline;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_formula(const HeatmapCase& c, const std::vector<float>& map, const std::string& name) {
    const std::vector<double> expected = formula(c);
    const double bound = tolerance(c);
    size_t worst = 0;
    const auto off = [&](size_t i) { return std::abs(map[i] - expected[i]); };
    for (size_t i = 0; i < expected.size(); ++i) {
        if (!(off(i) <= off(worst))) worst = i;
        expect(c.ignore.empty() || !c.ignore[i] || map[i] == 0, name + "an ignored pixel isn't 0");
    }
    expect(off(worst) <= bound, name + "pixel " + std::to_string(worst) + ": expected " +
                                    std::to_string(expected[worst]) + " within " + std::to_string(bound) + ", got " +
                                    std::to_string(map[worst]));
}

// Distances none of which is smaller: many are equal, some are the next larger float32, some anything.
std::vector<double> raised(const HeatmapCase& c, Random& random) {
    std::vector<double> distances = c.distances;
    const int64_t sort = random.below(4);
    const auto place = random.below(static_cast<int64_t>(distances.size()));
    for (int64_t i = 0; i < static_cast<int64_t>(distances.size()); ++i) {
        double& distance = distances[i];
        if (std::isnan(distance) || (sort == 0 && i != place)) continue;
        const auto next =
            static_cast<double>(std::nextafterf(static_cast<float>(distance), std::numeric_limits<float>::infinity()));
        if (sort == 1 || random.one_in(3)) {
            distance = std::max(distance, next);
        } else if (sort == 2 || random.one_in(3)) {
            distance *= 1 + random.uniform();
        } else if (sort == 3) {
            distance += std::exp(20 * random.normal());
        }
    }
    return distances;
}

void check_monotone(const HeatmapCase& c, const Heatmap& heatmap, const std::vector<float>& map, Random& random,
                    const std::string& name) {
    const std::vector<float> above = map_of(heatmap, c, raised(c, random));
    for (size_t i = 0; i < map.size(); ++i)
        expect(map[i] <= above[i], name + "larger distances made pixel " + std::to_string(i) + " smaller");
}

// A pixel depends on its rows and columns of the distances, on the outermost of them too, and on no other.
void check_support(const HeatmapCase& c, const Heatmap& heatmap, const std::vector<float>& map, Random& random) {
    const int64_t y = random.below(c.map.height), x = random.below(c.map.width), pixel = y * c.map.width + x;
    const auto [top, bottom] = heatmap.rows_of(y);
    const auto [left, right] = heatmap.columns_of(x);
    std::vector<double> others = c.distances, corners(c.distances.size());
    for (int64_t i = 0; i < c.size.height; ++i)
        for (int64_t j = 0; j < c.size.width; ++j)
            if (i < top || i >= bottom || j < left || j >= right) others[i * c.size.width + j] = 10 * random.uniform();
    expect(map_of(heatmap, c, others)[pixel] == map[pixel], c.name() + "a pixel depends on others than rows_of says");
    if (!c.ignore.empty()) return;
    for (const auto& [row, column] : {std::pair(top, left), std::pair(bottom - 1, right - 1)}) {
        std::fill(corners.begin(), corners.end(), 0);
        corners[row * c.size.width + column] = 1e30;
        expect(map_of(heatmap, c, corners)[pixel] > 0, c.name() + "rows_of has a row that a pixel doesn't depend on");
    }
}

void check_case(const HeatmapCase& c, ThreadPool& pool) {
    Random random(c.seed + 1'000'000);
    try {
        std::vector<float> first;  // of an instruction set that rounds a multiply-add once
        for (const Kernels* kernels : available_kernels()) {
            const std::string name = c.name() + kernels->name + ", ";
            const Heatmap heatmap = heatmap_of(*kernels, c);
            const std::vector<float> map = map_of(heatmap, c, c.distances);
            check_formula(c, map, name);
            check_monotone(c, heatmap, map, random, name);
            expect(map == map_of(heatmap, c, c.distances, &pool), name + "threads change the map");
            if (first.empty()) first = map;
            if (kernels->name != std::string("scalar")) expect(map == first, name + "the map differs");
        }
        check_support(c, heatmap_of(*available_kernels().front(), c), first, random);
    } catch (const std::exception& error) {
        expect(false, c.name() + error.what());
    }
}

// Several callers share a heatmap, some with teams of threads of their own. The map is so large that a team shares it.
void check_callers() {
    Random random(1);
    HeatmapCase c{0, {41, 57}, {233, 310}, 12, true, {}, {}, {}, 0};
    for (int64_t i = 0; i < c.size.height * c.size.width; ++i) c.distances.push_back(random.uniform());
    c.ignore = random_mask(random, c.map);
    c.ignored_distances = ignored_below(c);
    for (const Kernels* kernels : available_kernels()) {
        const Heatmap heatmap = heatmap_of(*kernels, c);
        const std::vector<float> expected = map_of(heatmap, c, c.distances);
        check_formula(c, expected, c.name());
        std::vector<std::thread> callers;
        for (int i = 0; i < 4; ++i)
            callers.emplace_back([&, i] {
                ThreadPool pool(i + 1);
                for (int call = 0; call < 3; ++call)
                    expect(map_of(heatmap, c, c.distances, i ? &pool : nullptr) == expected, "a caller beside others");
            });
        for (std::thread& caller : callers) caller.join();
    }
}

void check_values() {
    const double nan = std::nan("");
    std::vector<float> values(4);
    const std::vector<double> distances{4, 9, 0, 1e300};
    const std::vector<uint8_t> ignored{0, 0, 0, 1};
    expect(map_values(distances.data(), 4, true, ignored.data(), values.data()) == 3, "the largest root");
    expect(values == std::vector<float>{2, 3, 0, 0}, "roots");
    expect(map_values(distances.data(), 4, false, nullptr, values.data()) == 1e300, "a distance beyond float32");
    expect(values == std::vector<float>{4, 9, 0, static_cast<float>(kLargestDistance)}, "a value is capped");
    for (const double first : {nan, kInfinity}) {
        const std::vector<double> bad{first, 5, nan, 7};
        expect(std::isnan(map_values(bad.data(), 4, false, nullptr, values.data())), "NaN is reported");
        expect(values[0] == static_cast<float>(kLargestDistance) && values[2] == values[0], "NaN is capped");
    }
    expect(map_values(distances.data(), 0, false, nullptr, values.data()) == 0, "no distance");
}

// The largest values' map is finite, whatever is ignored.
void check_largest() {
    HeatmapCase c{0, {8, 8}, {32, 37}, 0, false, std::vector<double>(64, kLargestDistance), {}, {}, 0};
    for (const double sigma : {0.0, 2.0, 300.0})
        for (const bool masked : {false, true}) {
            c.sigma = sigma;
            c.ignore.assign(masked ? 32 * 37 : 0, 1);
            if (masked) c.ignore[500] = c.ignore[40] = 0;
            if (masked) c.ignored_distances = ignored_below(c);
            for (const Kernels* kernels : available_kernels())
                for (const float value : map_of(heatmap_of(*kernels, c), c, c.distances))
                    expect(value <= 1.01f * static_cast<float>(kLargestDistance), "a map isn't finite");
        }
}

// A heatmap is the same whatever its maker's arithmetic is.
void check_arithmetic() {
    HeatmapCase c = random_map(3);
    for (uint64_t seed = 4; c.ignore.empty() || c.sigma == 0; ++seed) c = random_map(seed);
    const Kernels& kernels = *available_kernels().front();
    const std::vector<float> expected = map_of(heatmap_of(kernels, c), c, c.distances);
    for (const uint64_t control : other_arithmetic()) {
        const uint64_t own = set_arithmetic(control);
        const Heatmap heatmap = heatmap_of(kernels, c);
        set_arithmetic(own);
        expect(map_of(heatmap, c, c.distances) == expected, "the maker's arithmetic changes the map");
    }
}

void check_refusals() {
    const Kernels& kernels = *available_kernels().back();
    const std::vector<uint8_t> none(100), all(100, 1);
    const auto refused = [&](const std::string& text, MapSize distances, MapSize map, double sigma,
                             const uint8_t* ignore = nullptr, const uint8_t* ignored_distances = nullptr) {
        expect_refused<std::invalid_argument>(
            text, [&] { Heatmap(kernels, distances, map, sigma, ignore, ignored_distances); });
    };
    refused("map: expected sides from the distances' 10 x 10 to 1048576, got 10 x 9", {10, 10}, {10, 9}, 1);
    refused("map: expected sides", {0, 10}, {10, 10}, 1);
    refused("map: expected sides", {10, 10}, {10, (1 << 20) + 1}, 1);
    refused("sigma: expected 0 to 1000, got -1", {10, 10}, {10, 10}, -1);
    refused("sigma: expected 0 to 1000, got nan", {10, 10}, {10, 10}, std::nan(""));
    refused("ignore: expected masks of the map and of the distances, or neither", {10, 10}, {10, 10}, 1, none.data());
    refused("ignored_distances: expected a scored distance at every scored pixel, got none at (0, 0)", {10, 10},
            {10, 10}, 1, none.data(), all.data());
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 150);
    if (!random_alone) {
        check_values();
        check_callers();
        check_largest();
        check_arithmetic();
        check_refusals();
    }
    ThreadPool pool(3);
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(random_map(i), pool);
    return report();
}
