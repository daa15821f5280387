// The gallery on a device: the images in slots, and what no query changes. Copies; matches nothing.
//
// If all images fit, they are copied once, and every query finds them. Else the slots are a cache. Queries then take
// turns on the device, whatever their streams, since one may overwrite what another reads, and the host's arrays must
// outlive the gallery.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "matcher/cuda/memory.hpp"
#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/slots.hpp"
#include "matcher/cuda/task.cuh"
#include "matcher/matcher.hpp"

namespace spadeline::cuda {

class DeviceGallery {
 public:
    // Takes at most `limit_bytes` of the current device's memory for images; without a limit all that is free but a
    // tenth, and but 1.6 GB where that leaves it half. Throws OutOfDeviceMemory if not one image fits. Bilinear
    // upsampling has no use for codes.
    DeviceGallery(PyramidShape shape, const Gallery& gallery, std::optional<int64_t> limit_bytes = std::nullopt,
                  Upsampling upsampling = Upsampling::nearest);

    const PyramidShape& shape() const { return shape_; }
    int64_t images() const { return gallery_.images; }
    int64_t slots() const { return slots_.slots(); }
    int64_t image_bytes() const { return image_bytes_; }
    bool all_fit() const { return slots() == images(); }
    bool pruned() const { return !gallery_.codes.empty() && !task_.bilinear; }
    const DensePlan& plan() const { return plan_; }
    // Without the query and its workspace.
    const DeviceTask& task() const { return task_; }

    // Keeps images in their slots until everything has run that was put on the stream before the lease ends.
    class Lease {
     public:
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        ~Lease();

     private:
        friend DeviceGallery;
        Lease(DeviceGallery& gallery, std::span<const int64_t> images, std::span<int32_t> slots, cudaStream_t stream);

        DeviceGallery& gallery_;
        const cudaStream_t stream_;
        std::unique_lock<std::mutex> turn_;  // not held if all images stay for good
    };
    // Writes the images' slots. Throws TooFewSlots.
    Lease lease(std::span<const int64_t> images, std::span<int32_t> slots, cudaStream_t stream) {
        return {*this, images, slots, stream};
    }

 private:
    struct Array {              // one of an image's arrays
        const std::byte* host;  // (images, bytes)
        std::byte* device;      // (slots, bytes)
        int64_t bytes;
    };
    class Constants;

    void describe(Constants& constants);
    void describe_filter();
    void describe_codes(int64_t l, int64_t directions, const float* basis, const uint8_t* records, DeviceCodes& codes,
                        Constants& constants);
    int64_t lay_out(int64_t slots, std::byte* base);
    void upload(std::span<const Upload> uploads, cudaStream_t stream);

    const PyramidShape shape_;
    const Gallery gallery_;
    DensePlan plan_;
    DeviceTask task_{};
    std::vector<Array> arrays_;
    int64_t image_bytes_ = 0;
    SlotTable slots_;
    DeviceMemory constants_, memory_;
    std::mutex turn_;
    Event last_use_;
    PinnedMemory staging_[2];  // an image each
    Event staged_[2];          // the copy from the staging memory is done
    std::vector<Upload> uploads_;
};

}  // namespace spadeline::cuda
