// Every instruction set against a naive float64 matcher, over small random pyramids. No Python, no framework: this runs
// under sanitizers, and cross-compiled under an emulator. tests/test_matching.py asks the same, and more, of the
// binding.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <tuple>
#include <vector>

#include "matcher/matcher.hpp"

using namespace spadeline;

namespace {

struct Case {
    std::vector<LevelShape> levels;
    int64_t images, kappa, window;
    int threads;
    bool integers;  // few distinct values: ties everywhere, and float64 sums without rounding
};

using Maps = std::vector<std::vector<float>>;  // (images, channels, height, width) a level

Maps random_maps(const Case& c, int64_t images, std::mt19937& random) {
    Maps maps;
    std::normal_distribution<float> normal;
    for (const LevelShape& l : c.levels) {
        std::vector<float> map(images * l.channels * l.height * l.width);
        for (float& value : map) value = c.integers ? static_cast<float>(random() % 2) : normal(random);
        maps.push_back(std::move(map));
    }
    return maps;
}

// The layout, written down a second time: channels last, cells in raster order, Morton order within.
std::vector<float> to_cells(const Case& c, const PyramidShape& shape, int64_t l, const std::vector<float>& map) {
    const LevelShape& level = c.levels[l];
    const int depth = shape.depth() - level.shift;
    std::vector<float> cells(c.images * shape.positions(l) * level.channels);
    for (int64_t n = 0; n < c.images; ++n)
        for (int64_t y = 0; y < level.height; ++y)
            for (int64_t x = 0; x < level.width; ++x) {
                int64_t morton = 0;
                for (int bit = 0; bit < depth; ++bit)
                    morton |= ((y >> bit & 1) << (2 * bit + 1)) | ((x >> bit & 1) << (2 * bit));
                const int64_t cell = (y >> depth) * shape.cell_columns() + (x >> depth);
                const int64_t position = n * shape.positions(l) + (cell << (2 * depth)) + morton;
                for (int64_t ch = 0; ch < level.channels; ++ch)
                    cells[position * level.channels + ch] =
                        map[((n * level.channels + ch) * level.height + y) * level.width + x];
            }
    return cells;
}

double distance(const Case& c, const Maps& query, const Maps& gallery, int64_t n, int64_t p, int64_t r) {
    double sum = 0;
    const int64_t width = c.levels[0].width;
    for (size_t l = 0; l < c.levels.size(); ++l) {
        const LevelShape& v = c.levels[l];
        const int64_t a = (p / width >> v.shift) * v.width + (p % width >> v.shift);
        const int64_t b = (r / width >> v.shift) * v.width + (r % width >> v.shift);
        for (int64_t ch = 0; ch < v.channels; ++ch) {
            const double d = static_cast<double>(query[l][ch * v.height * v.width + a]) -
                             gallery[l][(n * v.channels + ch) * v.height * v.width + b];
            sum += d * d;
        }
    }
    return sum;
}

int failures(const Case& c, const std::string& instruction_set, std::mt19937& random) {
    const PyramidShape shape(c.levels);
    const Maps gallery = random_maps(c, c.images, random), query = random_maps(c, 1, random);
    Maps cells;
    Gallery view{c.images, Storage::float32, {}};
    std::vector<QueryLevel> levels;
    for (size_t l = 0; l < c.levels.size(); ++l) {
        cells.push_back(to_cells(c, shape, static_cast<int64_t>(l), gallery[l]));
        levels.push_back({query[l].data(), Storage::float32});
    }
    for (const auto& level : cells) view.levels.push_back(level.data());
    Matcher matcher(shape, view, c.threads, instruction_set, Upsampling::nearest);

    std::vector<int64_t> ids(c.images);
    for (int64_t i = 0; i < c.images; ++i) ids[i] = i;
    const int64_t width = c.levels[0].width, pixels = c.levels[0].height * width;
    const int64_t kappa = std::min(c.kappa, c.images * matcher.reachable(c.window));
    std::vector<double> distances(pixels);
    std::vector<int32_t> neighbours(pixels * kappa * 3);
    matcher.match(levels, ids, kappa, c.window, distances.data(), neighbours.data());

    int bad = 0;
    const int depth = shape.depth();
    for (int64_t p = 0; p < pixels; ++p) {
        std::vector<std::tuple<double, int64_t, int64_t>> all;
        for (int64_t n = 0; n < c.images; ++n)
            for (int64_t r = 0; r < pixels; ++r) {
                const bool near = std::abs((p / width >> depth) - (r / width >> depth)) <= c.window &&
                                  std::abs((p % width >> depth) - (r % width >> depth)) <= c.window;
                if (c.window < 0 || near) all.emplace_back(distance(c, query, gallery, n, p, r), n, r);
            }
        std::sort(all.begin(), all.end());
        double sum = 0;
        bool same = true;
        for (int64_t k = 0; k < kappa; ++k) {
            sum += std::get<0>(all[k]);
            const int32_t* got = neighbours.data() + (p * kappa + k) * 3;
            same &= got[0] == std::get<1>(all[k]) && got[1] * width + got[2] == std::get<2>(all[k]);
        }
        if (!same || std::abs(distances[p] - sum / kappa) > 1e-12 * sum) ++bad;
    }
    if (bad)
        std::printf("%s: %d of %d pixels wrong: %zu levels, %d x %d, K %d, kappa %d, window %d, %d threads\n",
                    instruction_set.c_str(), bad, static_cast<int>(pixels), c.levels.size(),
                    static_cast<int>(c.levels[0].height), static_cast<int>(width), static_cast<int>(c.images),
                    static_cast<int>(kappa), static_cast<int>(c.window), c.threads);
    return bad;
}

Case random_case(std::mt19937& random) {
    const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
    Case c{{}, upto(3), upto(6), static_cast<int64_t>(random() % 5) - 2, static_cast<int>(upto(3)), random() % 2 == 0};
    if (c.window < 0) c.window = -1;
    const int64_t height = upto(18), width = upto(18), levels = upto(4);
    for (int shift = 0; static_cast<int64_t>(c.levels.size()) < levels; shift += static_cast<int>(upto(2)))
        c.levels.push_back(
            {upto(40), (height + (1 << shift) - 1) >> shift, (width + (1 << shift) - 1) >> shift, shift});
    return c;
}

}  // namespace

int main() {
    int passed = 0, failed = 0;
    for (const Kernels* kernels : available_kernels()) {
        std::mt19937 random(1);  // the same cases for every instruction set
        for (int i = 0; i < 60; ++i) (failures(random_case(random), kernels->name, random) ? failed : passed) += 1;
        std::printf("%s done\n", kernels->name);
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
