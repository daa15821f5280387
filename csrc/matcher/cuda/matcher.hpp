// The matcher on a GPU: what matcher/matcher.hpp's Matcher is on the CPU, with the same results. Queries and answers
// lie on the host here; search.hpp takes both where they lie on the device.
//
// Calls from several threads take turns: one query keeps a GPU busy.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "matcher/cuda/gallery.hpp"
#include "matcher/cuda/search.hpp"

namespace spadeline::cuda {

class CudaMatcher {
 public:
    // On the first device, whichever the calling thread has chosen; its memory holds at most so many bytes of the
    // gallery, see DeviceGallery. The arrays must outlive it. Throws CudaError where there is no device.
    CudaMatcher(PyramidShape shape, const Gallery& gallery, std::optional<int64_t> limit_bytes = std::nullopt,
                Upsampling upsampling = Upsampling::nearest);

    DeviceGallery& gallery() { return *gallery_; }
    const PyramidShape& shape() const { return gallery_->shape(); }
    int64_t images() const { return gallery_->images(); }
    // Images that fit the device at once, and what each of them takes there.
    int64_t resident() const { return gallery_->slots(); }
    int64_t image_bytes() const { return gallery_->image_bytes(); }
    // The device's, as "sm_87".
    const std::string& architecture() const { return architecture_; }

    // Throws NotFinite for the query's first bad feature, std::runtime_error for a gallery that holds one,
    // std::invalid_argument for levels of two number types, TooFewSlots, and CudaError. Nothing is written then; of a
    // batch the queries before the bad one are.
    Statistics match(const Request& request);
    void match_batch(std::span<const Request> requests, std::span<Statistics> statistics);

 private:
    Statistics run(const Request& request);
    void reserve(const Request& request);
    int64_t lay_out(int64_t kappa, std::byte* base);

    std::string architecture_;
    std::unique_ptr<DeviceGallery> gallery_;
    std::mutex turn_;
    std::unique_ptr<Stream> stream_;
    Most most_{0, 0};  // what the following can take
    std::unique_ptr<CudaSearch> search_;
    DeviceMemory buffers_;  // what follows:
    std::byte* levels_[kMaxLevels] = {};
    uint8_t* ignore_ = nullptr;
    double* distances_ = nullptr;
    int32_t* neighbours_ = nullptr;
};

}  // namespace spadeline::cuda
