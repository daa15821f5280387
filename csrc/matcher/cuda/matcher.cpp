#include "matcher/cuda/matcher.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "a query";

}  // namespace

CudaMatcher::CudaMatcher(PyramidShape shape, const Gallery& gallery, std::optional<int64_t> limit_bytes,
                         Upsampling upsampling) {
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count)) {
        cudaGetLastError();
        throw DeviceError(std::string("expected an NVIDIA GPU and a driver that is new enough, got none: ") +
                          cudaGetErrorString(error));
    }
    const OnFirstDevice first_device;
    const auto attribute = [&](cudaDeviceAttr which) {
        int value = 0;
        check(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute", "the device's architecture");
        return std::to_string(value);
    };
    architecture_ = "sm_" + attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
    gallery_ = std::make_unique<DeviceGallery>(std::move(shape), gallery, limit_bytes, upsampling);
    stream_ = std::make_unique<Stream>();
}

Statistics CudaMatcher::match(const Request& request) {
    const std::lock_guard turn(turn_);
    const OnFirstDevice first_device;
    return run(request);
}

void CudaMatcher::match_batch(std::span<const Request> requests, std::span<Statistics> statistics) {
    const std::lock_guard turn(turn_);
    const OnFirstDevice first_device;
    for (const Request& request : requests) reserve(request);
    for (size_t i = 0; i < requests.size(); ++i) {
        try {
            statistics[i] = run(requests[i]);
        } catch (NotFinite& bad) {
            bad.query = static_cast<int64_t>(i);
            throw;
        }
    }
}

Statistics CudaMatcher::run(const Request& request) {
    reserve(request);
    const auto copy = [&](void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
        check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, *stream_), "cudaMemcpyAsync", kPurpose);
    };
    const auto wait = [&] { check(cudaStreamSynchronize(*stream_), "cudaStreamSynchronize", kPurpose); };
    const Storage storage = request.levels[0].storage;
    for (const QueryLevel& level : request.levels)
        if (level.storage != storage)
            throw std::invalid_argument("query_levels: expected one number type, got float32 and float16");
    std::vector<const void*> levels;
    for (int64_t l = 0; l < shape().level_count(); ++l) {
        const LevelShape& level = shape().levels()[l];
        copy(levels_[l], request.levels[l].data, level.pixels() * level.channels * bytes_of(storage),
             cudaMemcpyHostToDevice);
        levels.push_back(levels_[l]);
    }
    const int64_t finest = shape().levels()[0].pixels();
    if (request.ignore) copy(ignore_, request.ignore, finest, cudaMemcpyHostToDevice);
    const CudaRequest on_device{levels,        storage,        request.image_ids,
                                request.kappa, request.window, request.ignore ? ignore_ : nullptr,
                                distances_,    neighbours_,    request.guard_share};
    try {
        check(search_->enqueue(on_device, *stream_), "a launch", kPurpose);
    } catch (...) {
        cudaStreamSynchronize(*stream_);  // the caller's levels may still be read
        throw;
    }
    wait();
    const Statistics statistics = search_->statistics();  // throws before anything is written
    copy(request.distances, distances_, finest * static_cast<int64_t>(sizeof(double)), cudaMemcpyDeviceToHost);
    copy(request.neighbours, neighbours_, finest * request.kappa * 3 * static_cast<int64_t>(sizeof(int32_t)),
         cudaMemcpyDeviceToHost);
    wait();
    return statistics;
}

// Makes the workspace larger for a query that asks for more images or a larger kappa than all queries before.
void CudaMatcher::reserve(const Request& request) {
    const auto images = static_cast<int64_t>(request.image_ids.size());
    if (images <= most_.images && request.kappa <= most_.kappa) return;
    const Most most{std::max(images, most_.images), std::max(request.kappa, most_.kappa)};
    search_.reset();  // first, so that the next one can have its memory
    buffers_ = DeviceMemory();
    most_ = {0, 0};  // until all memory is allocated
    search_ = std::make_unique<CudaSearch>(*gallery_, most);
    buffers_ = DeviceMemory(lay_out(most.kappa, nullptr), kPurpose);
    lay_out(most.kappa, buffers_.data());
    most_ = most;
}

// Places the copies of what the host gives and gets, and returns the bytes that they take.
int64_t CudaMatcher::lay_out(int64_t kappa, std::byte* base) {
    Layout layout(base);
    for (int64_t l = 0; l < shape().level_count(); ++l) {
        const LevelShape& level = shape().levels()[l];
        levels_[l] = layout.take<std::byte>(level.pixels() * level.channels * bytes_of(Storage::float32));
    }
    const int64_t finest = shape().levels()[0].pixels();
    ignore_ = layout.take<uint8_t>(finest);
    distances_ = layout.take<double>(finest);
    neighbours_ = layout.take<int32_t>(finest * kappa * 3);
    return layout.bytes();
}

}  // namespace spadeline::cuda
