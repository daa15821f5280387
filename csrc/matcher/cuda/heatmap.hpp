// Turns the matcher's distances on the device into the anomaly map, its mask above theta and its maximum, on the
// device.
//
//     map = Gaussian(S * bilinear(s * distances) / bilinear(s)) / Gaussian(S)
//
// s is 1 at the distances that are scored and S at the map's pixels that are, elsewhere 0; without a mask the divisors
// are 1. The CPU's map is equal to the last bit (matcher/heatmap.hpp): both take the same steps, each rounded once, in
// the same order. Regions and pictures are not made here.
#pragma once

#include <cstdint>

#include "matcher/cuda/memory.hpp"
#include "matcher/map_geometry.hpp"

namespace spadeline::cuda {

// What the kernels are given, by value: device pointers and sizes.
struct HeatmapTask {
    int32_t height, width;          // of the distances
    int32_t map_height, map_width;  // of the map
    int32_t radius;                 // of the Gaussian
    const Place* place_y;           // (map_height), in the distances
    const Place* place_x;           // (map_width)
    const float* weights;           // (2 * radius + 1)
    const uint8_t* ignore;          // (map_height, map_width); null if all is scored, like the next two
    const float* scored;            // (height, width), 0 or 1
    const float* divisor;           // (map_height, map_width): Gaussian(S), positive wherever a pixel isn't ignored
    float* values;                  // (height, width)
    float* rows;                    // (map_height, map_width), smoothed along x
};

class CudaHeatmap {
 public:
    // A map is no smaller than the distances. Sigma is in the map's pixels; with 0 nothing is smoothed. The masks lie
    // on the host, both or neither, and aren't zero where nothing is scored. `ignore` has the map's size.
    // `ignored_distances` has the distances' and is what the matcher takes: it is zero at every distance that a scored
    // pixel uses. Throws std::invalid_argument, OutOfDeviceMemory and CudaError.
    CudaHeatmap(MapSize distances, MapSize map, double sigma, const uint8_t* ignore = nullptr,
                const uint8_t* ignored_distances = nullptr);

    // The device memory that it takes.
    int64_t bytes() const { return bytes_; }

    // Puts a frame on the stream. All arrays lie on the device: distances (h, w), whose roots are taken if `root`; map
    // (H, W), 0 where ignored; mask (H, W), 1 where map > theta; one maximum. One frame at a time, since there is one
    // workspace.
    cudaError_t enqueue(const double* distances, bool root, float theta, float* map, uint8_t* mask, float* maximum,
                        cudaStream_t stream) const;

 private:
    int64_t lay_out(bool masked, std::byte* base);
    void weigh(cudaStream_t stream);

    HeatmapTask task_{};
    int64_t bytes_ = 0;
    DeviceMemory memory_;  // what the task points to
};

}  // namespace spadeline::cuda
