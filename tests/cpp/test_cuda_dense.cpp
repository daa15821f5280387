// The dense path's kernels on an emulated device: against the naive matcher, over random pyramids; the filter's bound;
// the plan.
//
//     test_cuda_dense [CASES [SEED]]      test_cuda_dense 1 SEED: a case that failed
#include <algorithm>
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "expect.hpp"
#include "matcher/cuda/dense.cuh"
#include "naive.hpp"

using namespace spadeline;
using namespace spadeline::cuda;

namespace {

// An array on the device that is exactly as large as it must be.
template <class T>
class Array {
 public:
    explicit Array(size_t count) : count_(count) { cudaMalloc(&data_, std::max<size_t>(count, 1) * sizeof(T)); }
    explicit Array(const std::vector<T>& values) : Array(values.size()) { write(0, values.data(), values.size()); }
    Array(Array&& other) noexcept : count_(other.count_), data_(std::exchange(other.data_, nullptr)) {}
    ~Array() { cudaFree(data_); }

    void write(size_t at, const T* values, size_t count) const {
        cudaMemcpyAsync(data_ + at, values, count * sizeof(T), cudaMemcpyHostToDevice, nullptr);
    }
    std::vector<T> read() const {
        std::vector<T> values(count_);
        cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, nullptr);
        return values;
    }
    T* data() const { return data_; }

 private:
    size_t count_;
    T* data_;
};

struct Level {
    Array<int64_t> raster;
    Array<std::byte> gallery;
    Array<float> query, mean;
    Array<__half> gallery_filter, query_filter;
    Array<float> gallery_norms, query_norms;
};

constexpr Neighbour kNobody{std::numeric_limits<double>::infinity(), INT32_MAX, INT32_MAX};

// The slots of the images: in random order, and some slots are empty.
std::vector<int32_t> random_slots(Random& random, int64_t images, int64_t slots) {
    std::vector<int32_t> order(slots);
    for (int64_t i = 0; i < slots; ++i) order[i] = static_cast<int32_t>(i);
    for (int64_t i = slots - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    order.resize(images);
    return order;
}

std::vector<uint8_t> scored_of(const Case& c, const Question& q) {
    std::vector<uint8_t> scored;
    for (const int64_t raster : c.shape.raster(0))
        scored.push_back(raster >= 0 && (q.ignore.empty() || !q.ignore[raster]));
    return scored;
}

std::vector<int32_t> slots_of(const Question& q, const std::vector<int32_t>& slot_of) {
    std::vector<int32_t> slots;
    for (const int64_t id : q.ids) slots.push_back(slot_of[id]);
    return slots;
}

DensePlan random_plan(Random& random, const PyramidShape& shape) {
    constexpr int64_t sizes[] = {64 << 10, 99 << 10, 163 << 10, 227 << 10};
    const int64_t bytes = sizes[random.below(4)];
    emulated::device().shared_memory_per_block = static_cast<int>(bytes);
    return plan_dense(shape.levels(), {random.upto(5), bytes});
}

// One question to the dense path, with everything that must lie on the device for it.
class Device {
 public:
    Device(const Case& c, const Question& q, Random& random, bool centred)
        : case_(c),
          question_(q),
          plan_(random_plan(random, c.shape)),
          slot_count_(c.images + random.below(3)),
          slot_of_(random_slots(random, c.images, slot_count_)),
          host_scored_(scored_of(c, q)),
          scored_(host_scored_),
          ids_(q.ids),
          slots_(slots_of(q, slot_of_)),
          thresholds_(std::vector<float>(c.shape.positions(0), FLT_MAX)),
          splits_(random.upto(plan_.splits)),
          best_(std::vector<Neighbour>(splits_ * c.shape.positions(0) * q.kappa, kNobody)),
          workspace_(plan_.workspace_bytes) {
        plan_.workspace = workspace_.data();
        task_.level_count = static_cast<int32_t>(c.shape.level_count());
        task_.storage = c.storage;
        task_.cells = c.shape.cells();
        task_.cell_columns = c.shape.cell_columns();
        task_.scored = scored_.data();
        task_.image_ids = ids_.data();
        task_.slots = slots_.data();
        task_.image_count = static_cast<int32_t>(q.ids.size());
        task_.kappa = static_cast<int32_t>(q.kappa);
        task_.window = q.window.value_or(kEverywhere);
        task_.splits = static_cast<int32_t>(splits_);
        task_.thresholds = thresholds_.data();
        task_.best = best_.data();
        for (int64_t l = 0; l < c.shape.level_count(); ++l) add_level(l, centred);
        task_.level[0].thresholds = thresholds_.data();
        for (int64_t i = 0; i < c.images; ++i)
            check(launch_filter_gallery(task_, plan_, slot_of_[i], 1, nullptr), "launch_filter_gallery");
        check(launch_filter_query(task_, plan_, nullptr), "launch_filter_query");
    }

    // Matches these cells of the query.
    void match(const std::vector<int32_t>& cells) {
        const Array<int32_t> list(cells), count(std::vector<int32_t>{static_cast<int32_t>(cells.size())});
        check(launch_dense(task_, plan_, list.data(), count.data(), nullptr), "launch_dense");
    }
    void match() { check(launch_dense(task_, plan_, nullptr, nullptr, nullptr), "launch_dense"); }

    // Merges the splits' lists.
    Answer answer() const {
        Answer answer;
        request_for(case_, question_, 0, answer);
        const int64_t kappa = task_.kappa, width = case_.shape.levels()[0].width;
        const std::vector<Neighbour> lists = best_.read();
        for (int64_t i = 0; i < case_.shape.positions(0); ++i) {
            const int64_t raster = case_.shape.raster(0)[i];
            if (raster < 0) continue;
            std::vector<Neighbour> all;
            for (int64_t s = 0; s < task_.splits; ++s) {
                const Neighbour* best = lists.data() + (s * case_.shape.positions(0) + i) * kappa;
                all.insert(all.end(), best, best + kappa);
            }
            std::sort(all.begin(), all.end(), [](const Neighbour& a, const Neighbour& b) {
                return std::tuple(a.distance, a.image, a.raster) < std::tuple(b.distance, b.image, b.raster);
            });
            double sum = 0;
            int32_t* out = answer.neighbours.data() + raster * kappa * 3;
            for (int64_t k = 0; k < kappa; ++k) {
                sum += all[k].distance;
                const bool scored = host_scored_[i];
                *out++ = scored ? all[k].image : -1;
                *out++ = scored ? static_cast<int32_t>(all[k].raster / width) : -1;
                *out++ = scored ? static_cast<int32_t>(all[k].raster % width) : -1;
            }
            answer.distances[raster] = host_scored_[i] ? sum / static_cast<double>(kappa) : 0;
        }
        return answer;
    }

    // Names a pair whose bound, computed exactly from rows and norms, is above its distance; empty if there is none.
    std::string bound_above() const {
        const int64_t positions = case_.shape.positions(0), width = case_.shape.levels()[0].width;
        std::vector<double> excess(positions * positions);  // with the first of the images asked for
        const std::vector<float> query_norms = level_[0].query_norms.read();
        const std::vector<float> gallery_norms = level_[0].gallery_norms.read();
        const int64_t first = slot_of_[question_.ids[0]] * positions;
        for (int64_t p = 0; p < positions; ++p)
            for (int64_t r = 0; r < positions; ++r)
                excess[p * positions + r] = double{query_norms[p]} + gallery_norms[first + r];
        for (int l = 0; l < task_.level_count; ++l) {
            const DeviceLevel& level = task_.level[l];
            const std::vector<__half> a = level_[l].query_filter.read(), b = level_[l].gallery_filter.read();
            const std::vector<float> query = to_cells(case_.shape, l, question_.query[l], 1).values;
            const float* gallery = case_.cells[l].values.data() + question_.ids[0] * level.positions * level.channels;
            const double factor = 2 * level.weight / (double{plan_.scale[l]} * plan_.scale[l]);
            const int64_t wide = level.filter_channels, channels = level.channels;
            for (int64_t p = 0; p < positions; ++p)
                for (int64_t r = 0; r < positions; ++r) {
                    const int64_t i = p >> (2 * level.shift), j = r >> (2 * level.shift);
                    const int64_t at = (first >> (2 * level.shift)) + j;
                    double product = 0, exact = 0;
                    for (int64_t c = 0; c < wide; ++c)
                        product += double{__half2float(a[i * wide + c])} * __half2float(b[at * wide + c]);
                    for (int64_t c = 0; c < channels; ++c) {
                        const double difference = double{query[i * channels + c]} - gallery[j * channels + c];
                        exact += difference * difference;
                    }
                    excess[p * positions + r] -= factor * product + level.weight * exact;
                }
        }
        for (int64_t p = 0; p < positions; ++p)
            for (int64_t r = 0; r < positions; ++r) {
                const int64_t pixel = case_.shape.raster(0)[p], other = case_.shape.raster(0)[r];
                if (pixel < 0 || other < 0 || !(excess[p * positions + r] > 0)) continue;
                return "pixel (" + std::to_string(pixel / width) + ", " + std::to_string(pixel % width) +
                       "): the bound of pixel " + std::to_string(other) + " is too large by " +
                       std::to_string(excess[p * positions + r]);
            }
        return "";
    }

    const DensePlan& plan() const { return plan_; }

 private:
    static void check(cudaError_t error, const char* what) {
        expect(error == cudaSuccess, std::string(what) + ": " + cudaGetErrorString(error));
    }

    void add_level(int64_t l, bool centred) {
        const LevelShape& shape = case_.shape.levels()[l];
        const int64_t positions = case_.shape.positions(l), channels = shape.channels;
        const int64_t width = case_.storage == Storage::float16 ? 2 : 4, wide = filter_channels(channels);
        const auto& basis = case_.bases[l];
        const Map query = to_cells(case_.shape, l, question_.query[l], 1);
        level_.push_back({Array(case_.shape.raster(l)), Array<std::byte>(slot_count_ * positions * channels * width),
                          Array(query.values), Array(std::vector<float>(basis.begin(), basis.begin() + channels)),
                          Array<__half>(slot_count_ * positions * wide), Array<__half>(positions * wide),
                          Array<float>(slot_count_ * positions), Array<float>(positions)});
        const Level& arrays = level_.back();
        const int64_t image = positions * channels * width;
        for (int64_t i = 0; i < case_.images; ++i)
            arrays.gallery.write(slot_of_[i] * image, static_cast<const std::byte*>(case_.cells[l].data()) + i * image,
                                 image);
        DeviceLevel& level = task_.level[l];
        level.channels = static_cast<int32_t>(channels);
        level.block = static_cast<int32_t>(case_.shape.block(l));
        level.positions = positions;
        level.height = shape.height;
        level.width = shape.width;
        level.shift = shape.shift;
        level.weight = case_.weights[l];
        level.raster = arrays.raster.data();
        level.gallery = arrays.gallery.data();
        level.query = arrays.query.data();
        if (centred) level.rotated.book.dims = 16, level.rotated.book.mean = arrays.mean.data();
        level.filter_channels = static_cast<int32_t>(wide);
        level.gallery_filter = arrays.gallery_filter.data();
        level.gallery_filter_norms = arrays.gallery_norms.data();
        level.query_filter = arrays.query_filter.data();
        level.query_filter_norms = arrays.query_norms.data();
        plan_.scale[l] = filter_scale(mean_square(case_.cells[l].data(), case_.storage, case_.images * positions,
                                                  channels, centred ? basis.data() : nullptr));
    }

    const Case& case_;
    const Question& question_;
    DensePlan plan_;
    DeviceTask task_{};
    const int64_t slot_count_;
    const std::vector<int32_t> slot_of_;
    const std::vector<uint8_t> host_scored_;
    std::vector<Level> level_;
    const Array<uint8_t> scored_;
    const Array<int64_t> ids_;
    const Array<int32_t> slots_;
    const Array<float> thresholds_;
    const int64_t splits_;
    const Array<Neighbour> best_;
    const Array<std::byte> workspace_;
};

std::string name_of(const Case& c, const Question& q, const DensePlan& plan) {
    return "test_cuda_dense 1 " + std::to_string(c.seed) + ": " + text_of(c, q) + ", " + std::to_string(plan.blocks) +
           " blocks, " + std::to_string(plan.channels) + " channels, " + std::to_string(plan.stages) +
           (plan.resident ? " stages, resident: " : " stages: ");
}

// Matches all cells, or some of them in random order: the other cells' lists must stay as they are.
void check(uint64_t seed) {
    // One case in eight has so many channels that all levels take several stages, and don't fill the last ones.
    Case c = seed % 8 ? random_case(seed) : random_case(seed, 1, PyramidShape(6, 5, {{150, 0}, {600, 1}, {1090, 2}}));
    c.upsampling = Upsampling::nearest;
    Random random(seed);
    emulated::device().seed = seed;
    Question& q = c.questions[0];
    q.kappa = std::min<int64_t>(q.kappa, kMostKappa);
    // Few pixels, so that this takes seconds even if nothing can be ruled out: a pair takes tens of microseconds.
    const int64_t pairs = c.shape.block(0) * c.shape.positions(0) * static_cast<int64_t>(q.ids.size());
    const int64_t most = std::clamp<int64_t>((1 << 16) / pairs, 1, c.shape.cells());
    std::vector<int32_t> cells;
    if (most < c.shape.cells() || random.one_in(2)) {
        q.ignore.resize(c.shape.levels()[0].height * c.shape.levels()[0].width, 0);
        std::vector<uint8_t> listed(c.shape.cells());
        for (int64_t i = random.upto(most); i > 0; --i) {
            const int64_t cell = random.below(c.shape.cells());
            if (!listed[cell]) cells.push_back(static_cast<int32_t>(cell));
            listed[cell] = 1;
        }
        for (int64_t i = 0; i < c.shape.positions(0); ++i)
            if (const int64_t raster = c.shape.raster(0)[i]; raster >= 0 && !listed[i / c.shape.block(0)])
                q.ignore[raster] = 1;
    }
    Device device(c, q, random, random.one_in(2));
    const std::string name = name_of(c, q, device.plan());
    try {
        if (cells.empty()) {
            device.match();
        } else {
            device.match(cells);
        }
        const std::string mistake = Naive(c, q).mistake(device.answer());
        expect(mistake.empty(), name + mistake);
        const std::string above = device.bound_above();
        expect(above.empty(), name + above);
    } catch (const std::exception& error) {
        expect(false, name + error.what());
    }
}

void check_plans() {
    const std::vector<LevelShape> wide = {{256, 56, 56, 0}, {512, 28, 28, 1}, {1024, 14, 14, 2}};
    const auto says = [](const DensePlan& plan, int channels, int stages, bool resident, const std::string& name) {
        expect(plan.channels == channels && plan.stages == stages && plan.resident == resident,
               name + ": got " + std::to_string(plan.channels) + " channels, " + std::to_string(plan.stages) +
                   " stages" + (plan.resident ? ", resident" : ""));
    };
    says(plan_dense(wide, {132, 227 << 10}), 64, 3, true, "Hopper");
    says(plan_dense(wide, {16, 163 << 10}), 32, 2, true, "Orin");
    says(plan_dense(wide, {84, 99 << 10}), 32, 3, false, "Ada");
    says(plan_dense(wide, {68, 64 << 10}), 32, 2, false, "Turing");
    expect(plan_dense(wide, {68, 48 << 10}).blocks == 0, "too little shared memory isn't noticed");
    expect(dense_splits(25, 613, 132, 16) == 5, "not the splits that fill 132 processors");
    expect(dense_splits(1, 3, 132, 16) == 3, "more splits than tiles");
    expect(dense_splits(40, 1000, 8, 1) == 1, "more splits than lists");
}

}  // namespace

int main(int count, char** arguments) {
    const auto [cases, seed, random_alone] = read_arguments(count, arguments, 12);
    if (!random_alone) check_plans();
    for (uint64_t i = seed; i < seed + cases && failures < 20; ++i) check(i);
    return report();
}
