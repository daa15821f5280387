// Regions of random masks, against a flood fill; and that equal scores, corners and frames of other sizes are treated
// as regions.hpp says. tests/inspect/test_heatmap.py has the regions' definition in NumPy.
//
//     test_regions [CASES [SEED]]      test_regions 1 SEED: a case that failed
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/regions.hpp"
#include "support/expect.hpp"
#include "support/features.hpp"

using namespace spadeline;

namespace {

constexpr Placement kSame{1, 1, 0, 0};

struct Flooded {
    Region region;
    int64_t peak;
};

// The regions of a frame that has the map's size.
std::vector<Region> by_flooding(MapSize size, const std::vector<float>& map, std::vector<uint8_t> mask) {
    std::vector<Flooded> found;
    for (int64_t start = 0; start < size.height * size.width; ++start) {
        if (!mask[start]) continue;
        Flooded f{{0, {size.height, size.width, 0, 0}, 0, 0, map[start]}, start};
        std::vector<int64_t> open{start};
        mask[start] = 0;
        while (!open.empty()) {
            const int64_t pixel = open.back(), y = pixel / size.width, x = pixel % size.width;
            open.pop_back();
            Box& box = f.region.box;
            ++f.region.area;
            box = {std::min(box.top, y), std::min(box.left, x), std::max(box.bottom, y + 1),
                   std::max(box.right, x + 1)};
            if (std::pair(-map[pixel], pixel) < std::pair(-f.region.score, f.peak))
                f.region.score = map[f.peak = pixel];
            for (int64_t j = std::max<int64_t>(y - 1, 0); j <= std::min(y + 1, size.height - 1); ++j) {
                for (int64_t i = std::max<int64_t>(x - 1, 0); i <= std::min(x + 1, size.width - 1); ++i) {
                    if (!mask[j * size.width + i]) continue;
                    mask[j * size.width + i] = 0;
                    open.push_back(j * size.width + i);
                }
            }
        }
        f.region.peak_y = f.peak / size.width;
        f.region.peak_x = f.peak % size.width;
        found.push_back(f);
    }
    std::sort(found.begin(), found.end(), [](const Flooded& a, const Flooded& b) {
        return std::pair(-a.region.score, a.peak) < std::pair(-b.region.score, b.peak);
    });
    std::vector<Region> regions;
    for (const Flooded& f : found) regions.push_back(f.region);
    return regions;
}

void check_case(uint64_t seed) {
    Random random(seed);
    const MapSize size{random.upto(40), random.upto(random.one_in(3) ? 300 : 40)};
    const int64_t values = random.upto(random.one_in(2) ? 4 : 1000), smooth = random.upto(5);
    std::vector<float> map;
    for (int64_t i = 0; i < size.height * size.width; ++i)
        map.push_back(i >= smooth && !random.one_in(smooth) ? map[i - 1] : static_cast<float>(random.below(values)));
    const double theta = static_cast<double>(random.below(values + 1)) - 0.5;
    // The mask isn't read beyond its end: a sanitizer sees it.
    std::vector<uint8_t> mask(map.size(), 7), expected;
    for (const float value : map) expected.push_back(value > static_cast<float>(theta));
    const std::string name = "seed " + std::to_string(seed) + ": ";
    const bool any = mask_above(map.data(), static_cast<int64_t>(map.size()), theta, mask.data());
    expect(mask == expected, name + "the mask");
    expect(any == (std::count(mask.begin(), mask.end(), 1) > 0), name + "whether the mask has a pixel");
    RegionFinder finder(size);
    for (int call = 0; call < 2; ++call) {
        const auto got = finder.find(map.data(), mask.data(), kSame, {size.height, size.width});
        const std::vector<Region> wanted = by_flooding(size, map, mask);
        expect(std::equal(got.begin(), got.end(), wanted.begin(), wanted.end()),
               name + "expected " + std::to_string(wanted.size()) + " regions, got " + std::to_string(got.size()) +
                   " or others");
        std::fill(mask.begin() + mask.size() / 2, mask.end(), 0);  // the second call's
    }
}

void check_frame_boxes() {
    // Exact multiples, whichever way 1024 / 224 was rounded.
    const Placement whole{1024.0 / 224, 2048.0 / 224, 0, 0};
    expect(frame_box({7, 21, 14, 28}, whole, {1024, 2048}) == Box{32, 192, 64, 256}, "a box of whole pixels");
    expect(frame_box({0, 0, 224, 224}, {0.3, 0.3, -1, 3}, {60, 70}) == Box{0, 3, 60, 70}, "a box beyond the frame");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 400);
    if (!random_alone) check_frame_boxes();
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(i);
    return report();
}
