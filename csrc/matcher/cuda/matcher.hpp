// The matcher on a GPU, with the results of matcher/matcher.hpp's Matcher. Queries and answers lie on the host;
// search.hpp has the search for those that lie on the device.
//
// Calls from several threads take turns, since one query keeps a GPU busy.
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
    // Works on the first device, even if the calling thread has chosen another one. The gallery takes at most
    // `limit_bytes` of its memory: see DeviceGallery. The arrays must outlive the matcher. Throws DeviceError if there
    // is no device.
    CudaMatcher(PyramidShape shape, const Gallery& gallery, std::optional<int64_t> limit_bytes = std::nullopt,
                Upsampling upsampling = Upsampling::nearest);

    DeviceGallery& gallery() { return *gallery_; }
    const PyramidShape& shape() const { return gallery_->shape(); }
    int64_t images() const { return gallery_->images(); }
    // How many images fit the device at once, and the bytes that an image takes.
    int64_t resident() const { return gallery_->slots(); }
    int64_t image_bytes() const { return gallery_->image_bytes(); }
    // As "sm_87".
    const std::string& architecture() const { return architecture_; }

    // Throws NotFinite for the query's first bad feature, std::runtime_error for a gallery that holds one,
    // std::invalid_argument for levels of two number types, TooFewSlots, and CudaError. Nothing is written then, except
    // the answers of a batch's queries before the bad one.
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
    Most most_{0, 0};  // what search and buffers are large enough for
    std::unique_ptr<CudaSearch> search_;
    DeviceMemory buffers_;  // what follows:
    std::byte* levels_[kMaxLevels] = {};
    uint8_t* ignore_ = nullptr;
    double* distances_ = nullptr;
    int32_t* neighbours_ = nullptr;
};

}  // namespace spadeline::cuda
