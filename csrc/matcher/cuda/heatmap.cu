#include "matcher/cuda/heatmap.cuh"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "the anomaly map";
constexpr int64_t kLongestSide = 1 << 20;  // of a map; a grid may have 2^16 blocks of 32 rows, and more columns
constexpr double kLargestSigma = 1000;     // what Python's settings allow

std::string text(MapSize size) { return std::to_string(size.height) + " x " + std::to_string(size.width); }

void check_sizes(MapSize distances, MapSize map) {
    const auto fits = [](int64_t side, int64_t map_side) {
        return 1 <= side && side <= map_side && map_side <= kLongestSide;
    };
    if (!fits(distances.height, map.height) || !fits(distances.width, map.width))
        throw std::invalid_argument("map: expected sides from the distances' " + text(distances) + " to " +
                                    std::to_string(kLongestSide) + ", got " + text(map));
}

// Half-pixel centres: pixel i of the map lies at (i + 1/2) * side / map_side - 1/2, clamped to the distances.
std::vector<Place> places(int64_t side, int64_t map_side) {
    const double scale = static_cast<double>(side) / static_cast<double>(map_side);
    std::vector<Place> all(map_side);
    for (int64_t i = 0; i < map_side; ++i) {
        const double at = std::max((static_cast<double>(i) + 0.5) * scale - 0.5, 0.0);
        const auto first = static_cast<int64_t>(at);
        const bool last = first >= side - 1;
        all[i] = {static_cast<int32_t>(last ? side - 1 : first),
                  last ? 0.0f : static_cast<float>(at - static_cast<double>(first))};
    }
    return all;
}

// A Gaussian's weights, four sigmas to either side; their sum is 1.
std::vector<float> gaussian(double sigma) {
    const auto radius = static_cast<int>(4 * sigma + 0.5);
    std::vector<double> weights;
    double sum = 0;
    for (int i = -radius; i <= radius; ++i) {
        weights.push_back(i == 0 ? 1 : std::exp(-0.5 * (i / sigma) * (i / sigma)));
        sum += weights.back();
    }
    std::vector<float> normalised;
    for (const double weight : weights) normalised.push_back(static_cast<float>(weight / sum));
    return normalised;
}

std::vector<float> scored_of(const uint8_t* ignored, int64_t count) {
    std::vector<float> scored(count);
    std::transform(ignored, ignored + count, scored.begin(), [](uint8_t value) { return value ? 0.0f : 1.0f; });
    return scored;
}

template <class T>
void copy(const T* to, const T* from, int64_t count, cudaStream_t stream) {
    check(cudaMemcpyAsync(const_cast<T*>(to), from, static_cast<size_t>(count) * sizeof(T), cudaMemcpyHostToDevice,
                          stream),
          "cudaMemcpyAsync", kPurpose);
}

}  // namespace

CudaHeatmap::CudaHeatmap(MapSize distances, MapSize map, double sigma, const uint8_t* ignore,
                         const uint8_t* ignored_distances) {
    check_sizes(distances, map);
    if (!(sigma >= 0 && sigma <= kLargestSigma))
        throw std::invalid_argument("sigma: expected 0 to 1000, got " + std::to_string(sigma));
    if (!ignore != !ignored_distances)
        throw std::invalid_argument("ignore: expected masks of the map and of the distances, or neither, got one");
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
