// A call allocates nothing if one of its kind was made before. Every form of operator new is counted.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "matcher/cpu/kernels.hpp"
#include "runtime/frame.hpp"
#include "runtime/frame_facts.hpp"
#include "runtime/regions.hpp"
#include "runtime/retrieval.hpp"
#include "runtime/verdict.hpp"
#include "support/expect.hpp"
#include "support/naive.hpp"

namespace {

std::atomic<int64_t> allocations = 0;

void* counted(std::size_t size, std::size_t alignment) noexcept {
    ++allocations;
    const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
    return std::aligned_alloc(alignment, rounded ? rounded : alignment);
}

void* counted_or_thrown(std::size_t size, std::size_t alignment) {
    void* place = counted(size, alignment);
    if (!place) throw std::bad_alloc();
    return place;
}

// Not inlined: GCC would see free() beside its own operator new, and warn of a mismatch.
[[gnu::noinline]] void release(void* p) { std::free(p); }

constexpr std::size_t kUsual = alignof(std::max_align_t);

}  // namespace

using std::align_val_t, std::nothrow_t, std::size_t;

void* operator new(size_t n) { return counted_or_thrown(n, kUsual); }
void* operator new[](size_t n) { return counted_or_thrown(n, kUsual); }
void* operator new(size_t n, align_val_t a) { return counted_or_thrown(n, static_cast<size_t>(a)); }
void* operator new[](size_t n, align_val_t a) { return counted_or_thrown(n, static_cast<size_t>(a)); }
void* operator new(size_t n, const nothrow_t&) noexcept { return counted(n, kUsual); }
void* operator new[](size_t n, const nothrow_t&) noexcept { return counted(n, kUsual); }
void* operator new(size_t n, align_val_t a, const nothrow_t&) noexcept { return counted(n, static_cast<size_t>(a)); }
void* operator new[](size_t n, align_val_t a, const nothrow_t&) noexcept { return counted(n, static_cast<size_t>(a)); }
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete[](void* p, size_t) noexcept { release(p); }
void operator delete(void* p, align_val_t) noexcept { release(p); }
void operator delete[](void* p, align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, align_val_t) noexcept { release(p); }
void operator delete[](void* p, size_t, align_val_t) noexcept { release(p); }
void operator delete(void* p, const nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, const nothrow_t&) noexcept { release(p); }
void operator delete(void* p, align_val_t, const nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, align_val_t, const nothrow_t&) noexcept { release(p); }

using namespace spadeline;

namespace {

// A case with several queries of the same sizes. Each of its cells can be pruned or given up.
Case made_case(uint64_t seed, Storage storage, int64_t queries) {
    Random random(seed);
    const PyramidShape shape(18, 13, {{5, 0}, {20, 1}, {40, 2}});
    Case c{seed, shape, 2, storage, Upsampling::nearest, 1, false, {1, 2, 3}, {}, {}, {}, {}};
    const std::vector<Values> values(3, Values::smooth);
    for (int64_t l = 0; l < 3; ++l) {
        const LevelShape& level = shape.levels()[l];
        Map map = random_map(random, Values::smooth, level, c.images);
        store(map, storage);
        c.cells.push_back(to_cells(shape, l, map, c.images));
        c.gallery.push_back(std::move(map));
        c.bases.push_back(random_basis(random, c.cells[l].values, level.channels, l > 0 ? 16 : 0));
    }
    for (int64_t i = 0; i < queries; ++i) {
        c.questions.push_back(random_question(random, c, values));
        c.questions[i].ids = {1, 0};
        c.questions[i].window = std::nullopt;
        c.questions[i].ignore.clear();
        c.questions[i].kappa = 5;
    }
    return c;
}

int64_t allocated_by_later_calls(Matcher& matcher, const Case& c, double guard_share) {
    std::vector<Answer> answers(c.questions.size());
    std::vector<Request> requests;
    for (size_t i = 0; i < answers.size(); ++i)
        requests.push_back(request_for(c, c.questions[i], guard_share, answers[i]));
    std::vector<Statistics> statistics(answers.size());
    const LevelShape& finest = c.shape.levels()[0];
    const MapSize size{2 * finest.height, 2 * finest.width};
    const Heatmap heatmap(*available_kernels().front(), {finest.height, finest.width}, size, 1.5);
    std::vector<float> upper(size.height * size.width), lower(upper.size());
    const auto call = [&] {
        for (const Request& request : requests)
            for (const float theta : {1e-3f, 1.0f, 1e3f})
                for (const Need need : {Need::map, Need::mask, Need::label})
                    matcher.inspect(request, {&heatmap, need, false, theta, theta, {}, upper.data(), lower.data()});
        for (const Request& request : requests) matcher.match(request);
        for (const size_t count : {requests.size() - 1, requests.size()})
            matcher.match_batch(std::span(requests).first(count), statistics);
    };
    call();
    const int64_t before = allocations;
    for (int i = 0; i < 2; ++i) call();
    return allocations - before;
}

// A frame's way to the extractor's input, and from its scores to its verdict; masks with more regions come later.
int64_t allocated_by_later_frames(Framing framing, Color color, PictureSize input) {
    const Kernels& kernels = *available_kernels().front();
    const int64_t pixels = input.height * input.width;
    const std::vector<uint8_t> frame(1500 * 1000 * 4, 77), ignore(pixels, 0);
    std::vector<uint8_t> rgb(3 * pixels), mask(pixels);
    std::vector<float> map(pixels), embeddings(100 * 32, 1);
    Preparation preparation(kernels, framing, input, 2);
    FactsMeter meter(kernels, input, ignore.data());
    Retrieval retrieval(embeddings.data(), 100, 32);
    RegionFinder finder({input.height, input.width});
    const Judge judge(LabelRule::either, 1, 1, FrameLimits{1, 200, 1, 1, 5.0});
    const auto call = [&](int64_t step) {
        const Placement placement =
            preparation.prepare({frame.data(), 1500, 1000, 1000 * channels_of(color), color}, rgb.data());
        const auto nearest = retrieval.nearest(retrieval.row(3), 50, {3, 4});
        const Known known{image_score(nearest, false), nearest[0].squared, meter.measure(rgb.data())};
        for (int64_t i = 0; i < pixels; i += step) map[i] = static_cast<float>(1 + i % 7);
        mask_above(map.data(), pixels, 0.5, mask.data());
        finder.find(map.data(), mask.data(), placement, {1500, 1000});
        judge.verdict(known, judge.label_known(known) ? 0 : 7);
    };
    call(900);
    const int64_t before = allocations;
    for (const int64_t step : {500, 7, 2, 1}) call(step);
    return allocations - before;
}

void check_that_all_forms_are_counted() {
    const int64_t before = allocations;
    struct alignas(64) Line {
        char bytes[64];
    };
    // Volatile, since the compiler may leave out a pair of new and delete whose memory isn't used.
    void* volatile kept[] = {
        new int, new int[3], new Line, new Line[2], new (std::nothrow) int, new (std::nothrow) Line};
    const int64_t after = allocations;
    expect(after == before + 6, "expected 6 allocations, counted " + std::to_string(after - before));
    delete static_cast<int*>(kept[0]);
    delete[] static_cast<int*>(kept[1]);
    delete static_cast<Line*>(kept[2]);
    delete[] static_cast<Line*>(kept[3]);
    delete static_cast<int*>(kept[4]);
    delete static_cast<Line*>(kept[5]);
}

}  // namespace

int main() {
    check_that_all_forms_are_counted();
    for (const Framing framing : {Framing::whole, Framing::paper})
        for (const Color color : {Color::gray, Color::bgra})
            for (const PictureSize input : {PictureSize{64, 80}, {1600, 300}}) {
                const int64_t count = allocated_by_later_frames(framing, color, input);
                expect(count == 0, "later frames allocated " + std::to_string(count) + " times");
            }
    constexpr double everything = std::numeric_limits<double>::infinity();
    for (const Storage storage : {Storage::float32, Storage::float16}) {
        const Case c = made_case(1, storage, 3);
        const auto available = available_kernels();
        const Codes codes = encode(c, *available.front());
        for (const auto& [kernels, threads] : {std::pair(available.front(), 3), std::pair(available.back(), 1)})
            for (const double guard_share : {-1.0, 0.0, kGuardShare, everything}) {  // below zero: the dense path
                const Gallery gallery = gallery_of(c, guard_share < 0 ? nullptr : &codes);
                Matcher matcher(c.shape, gallery, threads, kernels->name, Upsampling::nearest);
                const int64_t count = allocated_by_later_calls(matcher, c, guard_share);
                expect(count == 0, std::string(kernels->name) + ", " + std::to_string(threads) +
                                       " threads, guard share " + std::to_string(guard_share) +
                                       ": later calls allocated " + std::to_string(count) + " times");
            }
    }
    return report();
}
