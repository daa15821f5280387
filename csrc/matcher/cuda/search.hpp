// One query's way through the CUDA matcher: the workspace, which is made once, and the launches, which are the same for
// every query.
//
// What depends on the query's features stays on the device, and the host doesn't wait for it. So a frame is one
// sequence on the caller's stream, which a graph can capture if all images fit the device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "matcher/cuda/gallery.hpp"
#include "matcher/cuda/memory.hpp"
#include "matcher/cuda/task.cuh"
#include "matcher/search.hpp"

namespace spadeline::cuda {

// The most that a frame may ask for, and how many bytes of bounds may exist at once.
struct Most {
    int64_t images = 0;
    int64_t kappa = 1;
    int64_t bounds_bytes = int64_t{64} << 20;
};

// matcher/search.hpp's Request, with all arrays but the image ids on the device.
struct CudaRequest {
    std::span<const void* const> levels;  // (channels, height, width) each, contiguous
    Storage storage = Storage::float32;   // all levels have the same
    std::span<const int64_t> image_ids;   // on the host
    int64_t kappa = 1;
    std::optional<int64_t> window;
    const uint8_t* ignore = nullptr;
    double* distances = nullptr;
    int32_t* neighbours = nullptr;
    double guard_share = kGuardShare;
};

class CudaSearch {
 public:
    // The gallery must outlive it. Throws OutOfDeviceMemory.
    CudaSearch(DeviceGallery& gallery, const Most& most);

    // The device memory that a search takes.
    static int64_t workspace_bytes(const DeviceGallery& gallery, const Most& most);

    // Puts a frame on the stream. One frame at a time: the one before must be done, and its statistics read. A captured
    // graph reads the image ids of the last call. Throws std::invalid_argument for more than `Most` allows, TooFewSlots
    // and CudaError if images can't be brought.
    cudaError_t enqueue(const CudaRequest& request, cudaStream_t stream);

    // The last frame's statistics, once the stream has finished it. Throws NotFinite for the query's first feature that
    // is NaN or infinite, std::runtime_error for one of the gallery.
    Statistics statistics() const;

 private:
    static int64_t lay_out(const DeviceGallery& gallery, const Most& most, DeviceTask& task, DensePlan& plan,
                           std::byte* base);
    void begin(const CudaRequest& request);
    cudaError_t launch_all(const CudaRequest& request, cudaStream_t stream);
    cudaError_t launch_pruned(cudaStream_t stream);

    DeviceGallery& gallery_;
    const Most most_;
    const bool pruned_;
    int multiprocessors_ = 0;
    DeviceTask task_;
    DensePlan plan_;
    DeviceMemory workspace_;
    PinnedMemory pinned_;  // what follows:
    DeviceReport* report_ = nullptr;
    int64_t* image_ids_ = nullptr;
    int32_t* slots_ = nullptr;
};

}  // namespace spadeline::cuda
