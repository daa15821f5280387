#include "matcher/cuda/inspector.hpp"

#include <algorithm>

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "a frame";

CudaHeatmap heatmap_of(const LevelShape& finest, const InspectorOptions& options) {
    return {{finest.height, finest.width},
            {options.height, options.width},
            options.sigma,
            options.ignore,
            options.ignored_distances};
}

}  // namespace

CudaInspector::CudaInspector(CudaMatcher& matcher, const InspectorOptions& options)
    : CudaInspector(matcher, options, OnFirstDevice()) {}

CudaInspector::CudaInspector(CudaMatcher& matcher, const InspectorOptions& options, const OnFirstDevice&)
    : options_(options),
      finest_(matcher.shape().levels()[0].pixels()),
      pixels_(options.height * options.width),
      heatmap_(heatmap_of(matcher.shape().levels()[0], options)),
      search_(matcher.gallery(), {options.images, options.kappa}) {
    if (options.images > matcher.resident()) throw TooFewSlots(options.images, matcher.resident());
    memory_ = DeviceMemory(lay_out(nullptr), kPurpose);
    lay_out(memory_.data());
    pinned_ = PinnedMemory(outputs_.bytes, kPurpose);
    on_host_ = lay_out_outputs(pinned_.data());
    if (options.ignored_distances) {
        check(cudaMemcpyAsync(ignored_distances_, options.ignored_distances, static_cast<size_t>(finest_),
                              cudaMemcpyHostToDevice, stream_),
              "cudaMemcpyAsync", kPurpose);
        check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", kPurpose);
    }
}

CudaInspector::Outputs CudaInspector::lay_out_outputs(std::byte* base) const {
    Layout layout(base);
    Outputs outputs{layout.take<float>(pixels_), layout.take<uint8_t>(pixels_),
                    layout.take<int32_t>(finest_ * options_.kappa * 3), 0};
    outputs.bytes = layout.bytes();
    return outputs;
}

int64_t CudaInspector::lay_out(std::byte* base) {
    outputs_ = lay_out_outputs(base);
    Layout layout(base ? base + outputs_.bytes : nullptr);
    distances_ = layout.take<double>(finest_);
    maximum_ = layout.take<float>(1);
    ignored_distances_ = layout.take<uint8_t>(finest_);
    return outputs_.bytes + layout.bytes();
}

void CudaInspector::wait_for(cudaStream_t producer) {
    const std::lock_guard turn(turn_);
    const OnFirstDevice first_device;
    check(cudaEventRecord(produced_, producer), "cudaEventRecord", kPurpose);
    check(cudaStreamWaitEvent(stream_, produced_), "cudaStreamWaitEvent", kPurpose);
}

void CudaInspector::fetch(const void* frame, int64_t pitch, int64_t rows, int64_t row_bytes, uint8_t* host) {
    const std::lock_guard turn(turn_);
    const OnFirstDevice first_device;
    const auto width = static_cast<size_t>(row_bytes);
    check(cudaMemcpy2DAsync(host, width, frame, static_cast<size_t>(pitch), width, static_cast<size_t>(rows),
                            cudaMemcpyDefault, stream_),
          "cudaMemcpy2DAsync", kPurpose);
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", kPurpose);
}

Statistics CudaInspector::inspect(std::span<const void* const> levels, Storage storage,
                                  std::span<const int64_t> image_ids, float* map, uint8_t* mask, int32_t* neighbours) {
    const std::lock_guard turn(turn_);
    const OnFirstDevice first_device;
    const CudaRequest request{levels,          storage,
                              image_ids,       options_.kappa,
                              options_.window, options_.ignored_distances ? ignored_distances_ : nullptr,
                              distances_,      outputs_.neighbours};
    check(search_.enqueue(request, stream_), "a launch", kPurpose);
    check(heatmap_.enqueue(distances_, options_.root, options_.theta, outputs_.map, outputs_.mask, maximum_, stream_),
          "a launch", kPurpose);
    check(cudaMemcpyAsync(pinned_.data(), outputs_.map, static_cast<size_t>(outputs_.bytes), cudaMemcpyDeviceToHost,
                          stream_),
          "cudaMemcpyAsync", kPurpose);
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", kPurpose);
    const Statistics statistics = search_.statistics();  // throws before anything is written
    std::copy_n(on_host_.map, pixels_, map);
    std::copy_n(on_host_.mask, pixels_, mask);
    std::copy_n(on_host_.neighbours, finest_ * options_.kappa * 3, neighbours);
    return statistics;
}

}  // namespace spadeline::cuda
