#include "matcher/cuda/heatmap.cuh"

#include <vector>

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "the anomaly map";

template <class T>
void copy(const T* to, const T* from, int64_t count, cudaStream_t stream) {
    check(cudaMemcpyAsync(const_cast<T*>(to), from, static_cast<size_t>(count) * sizeof(T), cudaMemcpyHostToDevice,
                          stream),
          "cudaMemcpyAsync", kPurpose);
}

}  // namespace

CudaHeatmap::CudaHeatmap(MapSize distances, MapSize map, double sigma, const uint8_t* ignore,
                         const uint8_t* ignored_distances) {
    check_map(distances, map, sigma, ignore, ignored_distances);
    const std::vector<float> weights = gaussian(sigma);
    task_.height = static_cast<int32_t>(distances.height);
    task_.width = static_cast<int32_t>(distances.width);
    task_.map_height = static_cast<int32_t>(map.height);
    task_.map_width = static_cast<int32_t>(map.width);
    task_.radius = static_cast<int32_t>(weights.size() / 2);
    bytes_ = lay_out(ignore, nullptr);
    memory_ = DeviceMemory(bytes_, kPurpose);
    lay_out(ignore, memory_.data());

    const Stream stream;
    const std::vector<Place> place_y = places(distances.height, map.height);
    const std::vector<Place> place_x = places(distances.width, map.width);
    copy(task_.place_y, place_y.data(), map.height, stream);
    copy(task_.place_x, place_x.data(), map.width, stream);
    copy(task_.weights, weights.data(), static_cast<int64_t>(weights.size()), stream);
    if (ignore) {
        const int64_t count = distances.height * distances.width;
        const std::vector<float> scored = scored_of(ignored_distances, count);
        copy(task_.ignore, ignore, map.height * map.width, stream);
        copy(task_.scored, scored.data(), count, stream);
        weigh(stream);
    }
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
}

cudaError_t CudaHeatmap::enqueue(const double* distances, bool root, float theta, float* map, uint8_t* mask,
                                 float* maximum, cudaStream_t stream) const {
    return launch_heatmap(task_, distances, root, theta, map, mask, maximum, stream);
}

// Places the arrays that the task points to and returns the bytes that they take.
int64_t CudaHeatmap::lay_out(bool masked, std::byte* base) {
    Layout layout(base);
    const int64_t count = int64_t{task_.height} * task_.width, map_count = int64_t{task_.map_height} * task_.map_width;
    task_.place_y = layout.take<Place>(task_.map_height);
    task_.place_x = layout.take<Place>(task_.map_width);
    task_.weights = layout.take<float>(2 * task_.radius + 1);
    task_.values = layout.take<float>(count);
    task_.rows = layout.take<float>(map_count);
    if (!masked) return layout.bytes();
    task_.ignore = layout.take<uint8_t>(map_count);
    task_.scored = layout.take<float>(count);
    task_.divisor = layout.take<float>(map_count);
    return layout.bytes();
}

// Computes Gaussian(S): the map, without the division, of distances that are all 1, since they enlarge to S.
void CudaHeatmap::weigh(cudaStream_t stream) {
    const std::vector<double> ones(int64_t{task_.height} * task_.width, 1.0);
    const auto count = static_cast<int64_t>(ones.size());
    const int64_t map_count = int64_t{task_.map_height} * task_.map_width;
    const DeviceMemory memory(count * static_cast<int64_t>(sizeof(double)), kPurpose), mask(map_count, kPurpose),
        maximum(sizeof(float), kPurpose);
    auto* distances = reinterpret_cast<double*>(memory.data());
    copy(distances, ones.data(), count, stream);
    HeatmapTask undivided = task_;
    undivided.divisor = nullptr;
    check(launch_heatmap(undivided, distances, false, 0, const_cast<float*>(task_.divisor),
                         reinterpret_cast<uint8_t*>(mask.data()), reinterpret_cast<float*>(maximum.data()), stream),
          "launch_heatmap", kPurpose);
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
}

}  // namespace spadeline::cuda
