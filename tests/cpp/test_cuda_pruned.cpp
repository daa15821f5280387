// The CUDA matcher's whole sequence on an emulated device, against the naive matcher, over random pyramids: the pruned
// path alone, with the dense path for what it gives up, and galleries that fit the device only in part.
//
//     test_cuda_pruned [CASES [SEED]]      test_cuda_pruned 1 SEED: a case that failed
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "expect.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/search.hpp"
#include "naive.hpp"
#include "on_device.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

constexpr double kEverything = std::numeric_limits<double>::infinity();

std::string name_of(const Case& c, const Question& q, const std::string& path) {
    return "test_cuda_pruned 1 " + std::to_string(c.seed) + ": " + path + ", " + text_of(c, q) + ": ";
}

Answer ask(CudaSearch& search, const Case& c, const Question& q, double guard_share) {
    const LevelShape& finest = c.shape.levels()[0];
    const auto pixels = static_cast<size_t>(finest.height * finest.width);
    std::vector<OnDevice<std::byte>> maps;
    std::vector<const void*> levels;
    for (const Map& map : q.query) {
        const size_t bytes = map.values.size() * (q.storage == Storage::float16 ? 2 : 4);
        maps.emplace_back(static_cast<const std::byte*>(map.data()), bytes);
        levels.push_back(maps.back().data());
    }
    const OnDevice<uint8_t> ignore(q.ignore.data(), q.ignore.size());
    const OnDevice<double> distances(pixels);
    const OnDevice<int32_t> neighbours(pixels * static_cast<size_t>(q.kappa) * 3);
    CudaRequest request;
    request.levels = levels;
    request.storage = q.storage;
    request.image_ids = q.ids;
    request.kappa = q.kappa;
    request.window = q.window;
    request.ignore = q.ignore.empty() ? nullptr : ignore.data();
    request.distances = distances.data();
    request.neighbours = neighbours.data();
    request.guard_share = guard_share;
    const Stream stream;
    check(search.enqueue(request, stream), "enqueue", "a test");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", "a test");
    return {distances.values(), neighbours.values(), search.statistics()};
}

void check_answer(CudaSearch& search, const Case& c, const Question& q, const Naive& naive, double guard_share,
                  bool pruned, const std::string& path) {
    const std::string name = name_of(c, q, path + ", guard share " + std::to_string(guard_share));
    try {
        Answer answer = ask(search, c, q, guard_share);
        const std::string mistake = naive.mistake(answer);
        expect(mistake.empty(), name + mistake);
        if (pruned && guard_share == 0)  // cells in which nothing is scored needn't be given up
            expect(answer.statistics.guarded_cells > 0 || q.ignore.size(), name + "nothing was given up");
        const std::string miscount = naive.miscount(answer.statistics, pruned, guard_share);
        expect(guard_share == 0 || miscount.empty(), name + miscount);
    } catch (const std::exception& error) {
        expect(false, name + error.what());
    }
}

// A case that the device takes.
Case case_of(uint64_t seed) {
    Case c = random_case(seed);
    c.upsampling = Upsampling::nearest;
    c.questions[0].kappa = std::min<int64_t>(c.questions[0].kappa, kMostKappa);
    return c;
}

void check_case(const Case& c) {
    emulated::device().seed = c.seed;
    const Question& q = c.questions[0];
    const Naive naive(c, q);
    const auto available = available_kernels();
    const Codes codes = encode(c, *available[c.seed % available.size()]);
    const auto images = static_cast<int64_t>(q.ids.size());
    DeviceGallery gallery(c.shape, gallery_of(c, &codes));
    const bool few = c.seed % 2;  // few bounds at once: bands of 16 cells
    CudaSearch search(gallery, {images, q.kappa, few ? 1 : 1 << 20});
    for (const double guard_share : {kEverything, 0.0, kGuardShare})
        check_answer(search, c, q, naive, guard_share, true, "pruned");

    if (c.seed % 3) return;
    // Two searches on a device that holds the images of one query only.
    DeviceGallery part(c.shape, gallery_of(c, &codes), gallery.image_bytes() * images);
    CudaSearch cached(part, {images, q.kappa}), other(part, {c.images, q.kappa});
    for (CudaSearch* some : {&cached, &other, &cached}) check_answer(*some, c, q, naive, kEverything, true, "cached");
    DeviceGallery plain(c.shape, gallery_of(c, nullptr));
    CudaSearch dense(plain, {images, q.kappa});
    check_answer(dense, c, q, naive, kGuardShare, false, "dense");
}

// One question about all images, with kappa 3. Smooth images are what pruning is made for.
Case plain_case(const PyramidShape& shape, int64_t images, Values kind = Values::smooth) {
    Random random(1);
    const int64_t count = shape.level_count();
    Case c{0, shape, images, Storage::float32, Upsampling::nearest, 1, false, {}, {}, {}, {}, {}};
    const std::vector<Values> values(count, kind);
    for (int64_t l = 0; l < count; ++l) {
        c.weights.push_back(1);
        c.gallery.push_back(random_map(random, values[l], shape.levels()[l], images));
        c.cells.push_back(to_cells(shape, l, c.gallery[l], images));
        c.bases.push_back(random_basis(random, c.cells[l].values, shape.levels()[l].channels, l > 0 ? 16 : 0));
    }
    c.questions.push_back(random_question(random, c, values));
    Question& q = c.questions[0];
    q.ids.resize(images);
    for (int64_t i = 0; i < images; ++i) q.ids[i] = images - 1 - i;
    q.kappa = 3;
    q.window = std::nullopt;
    q.ignore.clear();
    return c;
}

Case small_case() { return plain_case(PyramidShape(6, 9, {{5, 0}, {16, 1}}), 5); }

void check_pruning() {
    const Case c = plain_case(PyramidShape(28, 28, {{16, 0}, {32, 1}, {48, 2}}), 5);
    const Codes codes = encode(c, kernels_named("auto"));
    DeviceGallery gallery(c.shape, gallery_of(c, &codes));
    CudaSearch search(gallery, {5, 3});
    const auto [distances, neighbours, statistics] = ask(search, c, c.questions[0], kEverything);
    const std::string mistake = Naive(c, c.questions[0]).mistake({distances, neighbours, statistics});
    expect(mistake.empty(), "smooth images: " + mistake);
    const auto& [pairs, passed, exact] = statistics.counts;
    std::printf("of %" PRId64 " pairs of cells %" PRId64 " were looked into, %" PRId64 " and %" PRId64
                " pairs of positions, %" PRId64 " decided\n",
                pairs, passed[2], passed[1], passed[0], exact);
    expect(passed[2] < pairs / 8, "bounds rule hardly anything out");
}

// A cell that spends its budget within a batch of 32 gallery cells is given up at once.
void check_guard() {
    const Case c = plain_case(PyramidShape(8, 8, {{64, 0}, {128, 1}, {256, 2}}), 40, Values::normal);
    const Codes codes = encode(c, kernels_named("auto"));
    DeviceGallery gallery(c.shape, gallery_of(c, &codes));
    CudaSearch search(gallery, {40, 3});
    const int64_t cells = c.shape.cells();
    const auto looked_into = [&](double guard_share) {
        const Answer answer = ask(search, c, c.questions[0], guard_share);
        const std::string mistake = Naive(c, c.questions[0]).mistake(answer);
        expect(mistake.empty(), "a guard: " + mistake);
        expect(answer.statistics.guarded_cells == (std::isinf(guard_share) ? 0 : cells), "cells are given up");
        return answer.statistics.counts.passed[2] / cells;
    };
    const int64_t all = looked_into(kEverything), some = looked_into(3), seeds = looked_into(0);
    std::printf("without bounds that help: %" PRId64 " gallery cells of each, %" PRId64
                " until it is given up, %" PRId64 " for a start\n",
                all, some, seeds);
    expect(all > 100, "the noise is pruned");
    expect(some > seeds && some < seeds + 20, "a cell is given up too late");
}

void check_bad_features() {
    Case c = small_case();
    Question& q = c.questions[0];
    const Codes codes = encode(c, kernels_named("auto"));
    {
        DeviceGallery gallery(c.shape, gallery_of(c, &codes));
        CudaSearch search(gallery, {5, 3});
        store(q.query[1], Storage::float32);
        q.storage = Storage::float32;
        for (Map& map : q.query) map.halves.clear();
        float& later = q.query[1].values[(10 * 3 + 1) * 5 + 4];
        float& first = q.query[1].values[(9 * 3 + 2) * 5 + 1];
        const float kept[2] = {later, first};
        later = std::numeric_limits<float>::quiet_NaN(), first = std::numeric_limits<float>::infinity();
        try {
            ask(search, c, q, kGuardShare);
            expect(false, "a query that isn't finite");
        } catch (const NotFinite& bad) {
            expect(bad.level == 1 && bad.channel == 9 && bad.y == 2 && bad.x == 1, "another bad feature");
        }
        later = kept[0], first = kept[1];
        expect_thrown<std::invalid_argument>("more neighbours than there is room for", [&] {
            Question many = q;
            many.kappa = 4;
            ask(search, c, many, kGuardShare);
        });
        ask(search, c, q, kGuardShare);  // the errors have no effect on later calls
    }
    for (float& value : c.cells[0].values) value = std::numeric_limits<float>::quiet_NaN();
    DeviceGallery bad(c.shape, gallery_of(c, &codes));
    CudaSearch search(bad, {5, 3});
    for (const double guard_share : {kEverything, 0.0})
        expect_thrown<std::runtime_error>("a gallery that isn't finite", [&] { ask(search, c, q, guard_share); });
}

// If memory can't be allocated, an error says so, and nothing leaks.
void check_memory() {
    const Case c = small_case();
    const Codes codes = encode(c, kernels_named("auto"));
    const Gallery gallery = gallery_of(c, &codes);
    const int64_t image_bytes = DeviceGallery(c.shape, gallery).image_bytes();
    expect_thrown<OutOfDeviceMemory>("less than an image", [&] { DeviceGallery(c.shape, gallery, image_bytes - 1); });
    expect_thrown<TooFewSlots>("five images in four slots", [&] {
        DeviceGallery part(c.shape, gallery, 4 * image_bytes);
        CudaSearch search(part, {5, 3});
        ask(search, c, c.questions[0], kGuardShare);
    });
    expect_thrown<std::invalid_argument>("too many neighbours", [&] {
        DeviceGallery whole(c.shape, gallery);
        CudaSearch(whole, {5, kMostKappa + 1});
    });
    const int64_t before = emulated::alive();
    for (int64_t failing = 0; failing < 8; ++failing)  // two of the cache's allocations are of the host's memory
        try {
            emulated::device().failing_allocation = failing;
            DeviceGallery part(c.shape, gallery, 2 * image_bytes);
            CudaSearch search(part, {2, 3});
            expect(failing >= 6, "an allocation failed, and nobody said so: " + std::to_string(failing));
        } catch (const CudaError& error) {
            expect(error.code == cudaErrorMemoryAllocation, error.what());
        }
    emulated::device().failing_allocation = -1;
    expect(emulated::alive() == before, "memory that a failure left behind");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 15);
    if (!random_alone) {
        check_pruning();
        check_guard();
        check_bad_features();
        check_memory();
    }
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check_case(case_of(i));
    expect(emulated::alive() == 0, std::to_string(emulated::alive()) + " things were never freed");
    return report();
}
