// Inspects frames whose features lie on the device: matching and anomaly map on one stream, one wait, one copy back.
//
// The extractor must run on the same stream, so that a frame's features are there when matching begins. Frames take
// turns.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "matcher/cuda/heatmap.hpp"
#include "matcher/cuda/matcher.hpp"

namespace spadeline::cuda {

// What all frames have in common.
struct InspectorOptions {
    int64_t images = 1;  // a frame is matched with so many at most
    int64_t kappa = 1;
    std::optional<int64_t> window;
    int64_t height = 0, width = 0;               // of the anomaly map
    double sigma = 0;                            // of its smoothing
    bool root = false;                           // the map is of distances' square roots
    float theta = 0;                             // above it the mask is set
    const uint8_t* ignore = nullptr;             // (height, width) on the host, not zero: isn't scored; or null
    const uint8_t* ignored_distances = nullptr;  // (h, w) of the finest level, likewise; both or none
};

class CudaInspector {
 public:
    // The matcher must outlive it; the masks are copied. Throws std::invalid_argument for a kappa that a GPU doesn't
    // offer, TooFewSlots if so many images don't fit the device together, and CudaError.
    CudaInspector(CudaMatcher& matcher, const InspectorOptions& options);

    cudaStream_t stream() const { return stream_; }

    // Makes what is put on the stream from now on wait for what was put on another stream before, such as a camera's
    // frame.
    void wait_for(cudaStream_t producer);

    // Copies a camera's frame to the host, and waits for it and for what was put on the stream before. The frame has
    // `rows` of `row_bytes` each, whose starts are `pitch` bytes apart on the device. On the host there are no gaps.
    void fetch(const void* frame, int64_t pitch, int64_t rows, int64_t row_bytes, uint8_t* host);

    // `levels`: (channels, height, width) on the device, read on the stream. Writes to the host: the map and the mask
    // (height, width), and the neighbours (h, w, kappa, 3). Throws as CudaMatcher::match.
    Statistics inspect(std::span<const void* const> levels, Storage storage, std::span<const int64_t> image_ids,
                       float* map, uint8_t* mask, int32_t* neighbours);

 private:
    CudaInspector(CudaMatcher& matcher, const InspectorOptions& options, const OnFirstDevice&);

    int64_t lay_out(std::byte* base);

    const InspectorOptions options_;
    const int64_t finest_, pixels_;
    const CudaHeatmap heatmap_;
    const Stream stream_;
    const Event produced_;
    CudaSearch search_;
    struct Outputs {  // lie together, and are copied together
        float* map;
        uint8_t* mask;
        int32_t* neighbours;
        int64_t bytes;
    };
    Outputs lay_out_outputs(std::byte* base) const;

    DeviceMemory memory_;  // what follows
    Outputs outputs_{};
    double* distances_ = nullptr;
    float* maximum_ = nullptr;
    uint8_t* ignored_distances_ = nullptr;
    PinnedMemory pinned_;
    Outputs on_host_{};
    std::mutex turn_;
};

}  // namespace spadeline::cuda
