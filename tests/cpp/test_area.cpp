// Frames shrunk by areas, over random sizes and contents: against averages in float64, and that all instruction sets,
// threads and callers give the same bytes, on every kind of processor. tests/images/test_area.py compares the bytes
// with OpenCV's.
//
//     test_area [CASES [SEED]]      test_area 1 SEED: a case that failed
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "images/area.hpp"
#include "matcher/aligned.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"
#include "support/expect.hpp"
#include "support/features.hpp"

using namespace spadeline;

namespace {

// Of the bytes of the random cases 1 to 60.
constexpr uint64_t kChecksum = 15591582221380790917u;

struct AreaCase {
    uint64_t seed;
    PictureSize frame, out;
    int64_t channels, pitch;
    // Ends with the last row's last pixel, so that a sanitizer sees what reads beyond it.
    std::vector<uint8_t> pixels;

    int64_t kept() const { return std::min<int64_t>(channels, 3); }  // of the picture
    std::string name() const {
        return "seed " + std::to_string(seed) + ": " + std::to_string(frame.height) + " x " +
               std::to_string(frame.width) + " x " + std::to_string(channels) + " to " + std::to_string(out.height) +
               " x " + std::to_string(out.width) + ": ";
    }
};

int64_t random_length(Random& random, int64_t target) {
    switch (random.below(5)) {
        case 0:
            return target * random.upto(6);  // a whole ratio
        case 1:
            return target + random.below(3);  // barely larger
        case 2:
            return std::max(target, target * random.upto(9) / 2);
        case 3:
            return target + random.below(1500) / target;  // far larger, where there is little
        default:
            return target + random.below(80);
    }
}

AreaCase random_case(uint64_t seed) {
    Random random(seed);
    AreaCase c{seed, {}, {random.upto(40), random.upto(random.one_in(4) ? 250 : 40)}, int64_t{1}, 0, {}};
    const int64_t channels[] = {1, 3, 4};
    c.channels = channels[random.below(3)];
    c.frame = {random_length(random, c.out.height), random_length(random, c.out.width)};
    c.pitch = c.frame.width * c.channels + (random.one_in(2) ? 0 : random.below(70));
    c.pixels.resize((c.frame.height - 1) * c.pitch + c.frame.width * c.channels);
    const int64_t kind = random.below(4), step = random.upto(7);
    for (size_t i = 0; i < c.pixels.size(); ++i)
        c.pixels[i] = static_cast<uint8_t>(kind == 0   ? 255
                                           : kind == 1 ? static_cast<int64_t>(i) * step
                                           : kind == 2 ? 255 * random.below(2)
                                                       : random.below(256));
    return c;
}

std::vector<uint8_t> shrunk(const AreaResize& resize, const AreaCase& c, ThreadPool* pool = nullptr) {
    std::vector<uint8_t> out(c.out.height * c.out.width * c.kept(), 77);
    AlignedBuffer<float> workspace;
    resize.make(c.pixels.data(), c.pitch, out.data(), workspace.reserve(resize.floats(pool)), pool);
    return out;
}

// What part of a pixel of the frame lies in a pixel of the picture.
double overlap(int64_t pixel, int64_t target, double ratio) {
    const auto begin = static_cast<double>(target) * ratio, first = static_cast<double>(pixel);
    return std::max(0.0, std::min(begin + ratio, first + 1) - std::max(begin, first));
}

void check_averages(const AreaCase& c, const std::vector<uint8_t>& got, const std::string& name) {
    const double ratio_y = static_cast<double>(c.frame.height) / static_cast<double>(c.out.height);
    const double ratio_x = static_cast<double>(c.frame.width) / static_cast<double>(c.out.width);
    // Beside rounding: up to a thousandth of a pixel at each end of a side may be left out.
    const double bound = 0.501 + 255 * 2e-3 * (1 / ratio_y + 1 / ratio_x);
    for (int64_t i = 0; i < static_cast<int64_t>(got.size()); ++i) {
        const int64_t y = i / c.kept() / c.out.width, x = i / c.kept() % c.out.width;
        const auto top = static_cast<int64_t>(static_cast<double>(y) * ratio_y);
        const auto left = static_cast<int64_t>(static_cast<double>(x) * ratio_x);
        double sum = 0;
        for (int64_t v = top; v < c.frame.height && overlap(v, y, ratio_y) > 0; ++v)
            for (int64_t u = left; u < c.frame.width && overlap(u, x, ratio_x) > 0; ++u)
                sum += overlap(v, y, ratio_y) * overlap(u, x, ratio_x) *
                       c.pixels[v * c.pitch + u * c.channels + i % c.kept()];
        const double average = sum / (ratio_y * ratio_x);
        if (std::abs(got[i] - average) <= bound) continue;
        return expect(false, name + "byte " + std::to_string(i) + ": expected " + std::to_string(average) + " within " +
                                 std::to_string(bound) + ", got " + std::to_string(got[i]));
    }
}

// Adds a picture's bytes to a checksum.
uint64_t summed_up(uint64_t checksum, const std::vector<uint8_t>& bytes) {
    for (const uint8_t byte : bytes) checksum = (checksum ^ byte) * 0x100000001b3;
    return checksum;
}

std::vector<uint8_t> check_case(const AreaCase& c, ThreadPool& pool) {
    std::vector<uint8_t> first;
    for (const Kernels* kernels : available_kernels()) {
        const std::string name = c.name() + kernels->name + ", ";
        const AreaResize resize(*kernels, c.frame, c.out, c.channels);
        const std::vector<uint8_t> got = shrunk(resize, c);
        if (first.empty()) check_averages(c, first = got, name);
        expect(got == first, name + "the bytes differ");
        expect(shrunk(resize, c, &pool) == first, name + "threads change the bytes");
    }
    return first;
}

// Rounding twice, once for the product and once for the sum, is the same everywhere.
void check_bytes(ThreadPool& pool) {
    uint64_t checksum = 0xcbf29ce484222325;
    for (uint64_t seed = 1; seed <= 60; ++seed) checksum = summed_up(checksum, check_case(random_case(seed), pool));
    expect(checksum == kChecksum, "the bytes of 60 pictures: expected the checksum " + std::to_string(kChecksum) +
                                      ", got " + std::to_string(checksum));
}

// Frames so large that a team shares them, also by callers at the same time.
void check_large(ThreadPool& pool) {
    for (const int64_t channels : {1, 3, 4}) {
        AreaCase c{0, {1203, 1801}, {224, 99}, channels, 1801 * channels, {}};
        Random random(channels);
        for (int64_t i = 0; i < c.frame.height * c.pitch; ++i) c.pixels.push_back(random.below(256));
        const std::vector<uint8_t> expected = check_case(c, pool);
        const AreaResize resize(*available_kernels().front(), c.frame, c.out, channels);
        std::vector<std::thread> callers;
        for (int i = 0; i < 3; ++i)
            callers.emplace_back([&, i] {
                ThreadPool own(i + 1);
                for (int call = 0; call < 3; ++call)
                    expect(shrunk(resize, c, i ? &own : nullptr) == expected, c.name() + "a caller beside others");
            });
        for (std::thread& caller : callers) caller.join();
    }
}

// Sums that float32 doesn't hold.
void check_huge(ThreadPool& pool) {
    for (const int64_t channels : {1, 3, 4}) {
        AreaCase c{0, {600, 1200}, {2, 3}, channels, 1200 * channels, {}};
        for (int64_t i = 0; i < c.frame.height * c.pitch; ++i) c.pixels.push_back(250 + i % 6);
        check_case(c, pool);
    }
}

void check_refusals() {
    const Kernels& kernels = *available_kernels().back();
    const auto refused = [&](const std::string& text, PictureSize frame, PictureSize out, int64_t channels) {
        expect_refused<std::invalid_argument>(text, [&] { AreaResize(kernels, frame, out, channels); });
    };
    refused("frame: expected sides from 1 to 1048576, got 0 x 5", {0, 5}, {1, 1}, 1);
    refused("frame: expected sides from 1 to 1048576, got 5 x 1048577", {5, (1 << 20) + 1}, {1, 1}, 1);
    refused("out: expected sides from 1 to the frame's 5 x 6, got 5 x 7", {5, 6}, {5, 7}, 1);
    refused("out: expected sides from 1 to the frame's 5 x 6, got 0 x 6", {5, 6}, {0, 6}, 1);
    refused("channels: expected 1, 3 or 4, got 2", {5, 6}, {5, 5}, 2);
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 300);
    const StandardArithmetic arithmetic;
    ThreadPool pool(3);
    if (!random_alone) {
        check_bytes(pool);
        check_large(pool);
        check_huge(pool);
        check_refusals();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(random_case(i), pool);
    return report();
}
