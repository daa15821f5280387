#include "matcher/cuda/search.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "matcher/cuda/coarse.cuh"
#include "matcher/cuda/collect.cuh"
#include "matcher/cuda/dense.hpp"
#include "matcher/cuda/encode.cuh"
#include "matcher/cuda/refine.cuh"

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "the search";

// Multiply-adds of the dense path in the time of one instruction of the pruned path. A multiprocessor's tensor cores do
// 512 to 1024 at a time, and four of its warps issue an instruction at a time: 512 / 4.
constexpr double kDenseRate = 128;

// The first error among these calls.
cudaError_t first_error(std::initializer_list<cudaError_t> errors) {
    for (const cudaError_t error : errors)
        if (error != cudaSuccess) return error;
    return cudaSuccess;
}

int64_t stride_of(const DeviceTask& task, int64_t images) { return images * task.panels * kPanel; }

// How many query cells are bounded at once, in whole records of codes.
int64_t band_of(const DeviceTask& task, int64_t images, int64_t bounds_bytes) {
    const int64_t fitting = bounds_bytes / (stride_of(task, images) * static_cast<int64_t>(sizeof(float)));
    return std::clamp(fitting / kPanel * kPanel, kPanel, round_up(task.cells, kPanel));
}

// Whether the device can encode such channels: a vector's codes are made in one block's shared memory.
bool encodes(const DeviceTask& task, int64_t shared_bytes) {
    for (int l = 0; l < task.level_count; ++l)
        for (const DeviceCodes* codes : {&task.level[l].projected, &task.level[l].rotated})
            if (encode_bytes(codes->book.dims) > shared_bytes) return false;
    return true;
}

}  // namespace

CudaSearch::CudaSearch(DeviceGallery& gallery, const Most& most)
    : gallery_(gallery),
      most_(most),
      pruned_(gallery.pruned() &&
              encodes(gallery.task(), device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, kPurpose))),
      multiprocessors_(device_attribute(cudaDevAttrMultiProcessorCount, kPurpose)),
      task_(gallery.task()),
      plan_(gallery.plan()) {
    if (most.images < 1 || most.kappa < 1 || most.kappa > kMostKappa)
        throw std::invalid_argument("kappa: expected 1 to " + std::to_string(kMostKappa) + " on a GPU, got " +
                                    std::to_string(most.kappa));
    workspace_ = DeviceMemory(workspace_bytes(gallery, most), "a query's workspace");
    lay_out(gallery, most, task_, plan_, workspace_.data());
    const auto pinned = [&](std::byte* base) {
        Layout layout(base);
        report_ = layout.take<DeviceReport>(1);
        image_ids_ = layout.take<int64_t>(most.images);
        slots_ = layout.take<int32_t>(most.images);
        return layout.bytes();
    };
    pinned_ = PinnedMemory(pinned(nullptr), kPurpose);
    pinned(pinned_.data());
}

int64_t CudaSearch::workspace_bytes(const DeviceGallery& gallery, const Most& most) {
    DeviceTask task = gallery.task();
    DensePlan plan = gallery.plan();
    return lay_out(gallery, most, task, plan, nullptr);
}

// Places all buffers one behind the other and returns the bytes that they take.
int64_t CudaSearch::lay_out(const DeviceGallery& gallery, const Most& most, DeviceTask& task, DensePlan& plan,
                            std::byte* base) {
    Layout layout(base);
    for (int l = 0; l < task.level_count; ++l) {
        DeviceLevel& level = task.level[l];
        level.query = layout.take<float>(level.positions * level.channels);
        level.thresholds = layout.take<float>(level.positions);
        level.query_filter = layout.take<__half>(level.positions * level.filter_channels);
        level.query_filter_norms = layout.take<float>(level.positions);
        for (DeviceCodes* codes : {&level.projected, &level.rotated}) {
            codes->query = layout.take<uint8_t>(codes->groups * codes->record);
            codes->projections = layout.take<float>(codes->book.projection ? level.positions * codes->book.dims : 0);
        }
    }
    const int64_t positions = task.level[0].positions;
    task.thresholds = task.level[0].thresholds;
    task.splits = std::max(plan.splits, 1);
    task.image_ids = layout.take<int64_t>(most.images);
    task.slots = layout.take<int32_t>(most.images);
    task.scored = layout.take<uint8_t>(positions);
    task.best = layout.take<Neighbour>(task.splits * positions * most.kappa);
    task.locks = layout.take<int32_t>(positions);
    task.taken = layout.take<uint32_t>(task.cells);
    task.spent = layout.take<uint64_t>(task.cells);
    task.given_up = layout.take<uint32_t>(task.cells);
    task.guarded = layout.take<int32_t>(task.cells);
    task.guarded_count = layout.take<int32_t>(1);
    task.report = layout.take<DeviceReport>(1);
    task.counters = base ? task.report->counters : nullptr;
    if (gallery.pruned()) {  // with fewer images more query cells are bounded at once, but no more bounds exist
        const int64_t stride = stride_of(task, most.images), enough = most.bounds_bytes / 4;
        task.bounds =
            layout.take<float>(std::min(std::max(enough, kPanel * stride), round_up(task.cells, kPanel) * stride));
    }
    plan.workspace = layout.take<std::byte>(plan.workspace_bytes);
    return layout.bytes();
}

cudaError_t CudaSearch::enqueue(const CudaRequest& request, cudaStream_t stream) {
    begin(request);
    const auto lease = gallery_.lease(request.image_ids, {slots_, request.image_ids.size()}, stream);
    return launch_all(request, stream);
}

void CudaSearch::begin(const CudaRequest& request) {
    const auto images = static_cast<int64_t>(request.image_ids.size());
    if (images < 1 || images > most_.images || request.kappa < 1 || request.kappa > most_.kappa)
        throw std::invalid_argument("query: expected at most " + std::to_string(most_.images) + " images and kappa " +
                                    std::to_string(most_.kappa) + ", for which its workspace is made, got " +
                                    std::to_string(images) + " and " + std::to_string(request.kappa));
    std::copy(request.image_ids.begin(), request.image_ids.end(), image_ids_);
    task_.image_count = static_cast<int32_t>(images);
    task_.kappa = static_cast<int32_t>(request.kappa);
    task_.window = request.window.value_or(kEverywhere);
    task_.query_storage = request.storage;
    task_.ignore = request.ignore;
    for (int l = 0; l < task_.level_count; ++l) task_.level[l].source = request.levels[l];
    task_.stride = stride_of(task_, images);
    task_.band = band_of(task_, images, most_.bounds_bytes);
    constexpr double most_budget = 0x1p62;  // warps may add to it what they spend beyond, without leaving 64 bits
    const double dense_cost = gallery_.shape().dense_cost(request.window, images);
    task_.budget = std::isinf(request.guard_share)
                       ? UINT64_MAX
                       : static_cast<uint64_t>(std::min(request.guard_share * dense_cost / kDenseRate, most_budget));
}

cudaError_t CudaSearch::launch_all(const CudaRequest& request, cudaStream_t stream) {
    const auto images = static_cast<size_t>(task_.image_count);
    const auto copy = [&](const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
        return cudaMemcpyAsync(const_cast<void*>(to), from, bytes, kind, stream);
    };
    if (const cudaError_t error =
            first_error({copy(task_.image_ids, image_ids_, images * sizeof(int64_t), cudaMemcpyHostToDevice),
                         copy(task_.slots, slots_, images * sizeof(int32_t), cudaMemcpyHostToDevice),
                         cudaMemsetAsync(task_.report, 0, sizeof(DeviceReport), stream),
                         cudaMemsetAsync(&task_.report->not_finite, 0xff, sizeof task_.report->not_finite, stream),
                         launch_gather(task_, stream), launch_prepare(task_, stream)}))
        return error;
    const bool guarded = !pruned_ || task_.budget != UINT64_MAX;
    if (const cudaError_t error = pruned_ ? launch_pruned(stream) : launch_give_up(task_, stream)) return error;
    if (guarded)
        if (const cudaError_t error =
                first_error({launch_reset(task_, multiprocessors_, stream), filter_query(task_, plan_, stream),
                             match_guarded(task_, plan_, stream)}))
            return error;
    return first_error({launch_collect(task_, request.distances, request.neighbours, stream),
                        copy(report_, task_.report, sizeof(DeviceReport), cudaMemcpyDeviceToHost)});
}

// Takes the query's cells in bands whose bounds fit the workspace.
cudaError_t CudaSearch::launch_pruned(cudaStream_t stream) {
    cudaError_t error = launch_encode(task_, stream);
    for (int64_t first = 0; first < task_.cells && !error; first += task_.band) {
        DeviceTask task = task_;
        task.first_cell = first;
        error = first_error({launch_coarse(task, stream), launch_refine(task, multiprocessors_, stream)});
    }
    return error;
}

Statistics CudaSearch::statistics() const {
    if (report_->not_finite != UINT64_MAX) {
        const auto level = static_cast<int64_t>(report_->not_finite >> kLevelBit);
        const auto at = static_cast<int64_t>(report_->not_finite & ((uint64_t{1} << kLevelBit) - 1));
        const DeviceLevel& shape = task_.level[level];
        const int64_t plane = shape.height * shape.width;
        throw NotFinite{level, at / plane, at % plane / shape.width, at % shape.width};
    }
    if (report_->short_lists) throw std::runtime_error("gallery: expected finite features, got NaN or infinity");
    Statistics statistics{};
    if (!pruned_) return statistics;  // there is nothing to count
    const uint64_t* counters = report_->counters;
    statistics.counts.pairs = static_cast<int64_t>(counters[0]);
    for (int l = 0; l < kMaxLevels; ++l) statistics.counts.passed[l] = static_cast<int64_t>(counters[1 + l]);
    statistics.counts.exact = static_cast<int64_t>(counters[1 + kMaxLevels]);
    statistics.guarded_cells = static_cast<int64_t>(counters[2 + kMaxLevels]);
    return statistics;
}

}  // namespace spadeline::cuda
