#include "matcher/matcher.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "matcher/half.hpp"

namespace spadeline {

Matcher::Matcher(PyramidShape shape, Gallery gallery, int threads, const std::string& instruction_set,
                 Upsampling upsampling)
    : shape_(std::move(shape)),
      gallery_(std::move(gallery)),
      kernels_(kernels_named(instruction_set)),
      pool_(threads),
      encoded_(shape_.level_count()),
      workspaces_(threads) {
    if (shape_.level_count() > kMaxLevels)
        throw std::invalid_argument("levels: expected 1 to " + std::to_string(kMaxLevels) + ", got " +
                                    std::to_string(shape_.level_count()));
    task_.level_count = static_cast<int>(shape_.level_count());
    task_.storage = gallery_.storage;
    task_.bilinear = upsampling == Upsampling::bilinear;
    task_.cells = shape_.cells();
    task_.cell_columns = shape_.cell_columns();
    task_.raster = shape_.raster(0).data();
    taps_.resize(shape_.level_count());
    for (int64_t l = 0; l < shape_.level_count(); ++l) {
        if (task_.bilinear && l > 0) taps_[l] = taps_of(l);
        const LevelShape& level = shape_.levels()[l];
        const float* encoded = encoded_[l].reserve(shape_.positions(l) * level.channels);
        task_.level[l] = {level.channels,     shape_.block(l), shape_.positions(l), level.shift,
                          gallery_.levels[l], encoded,         taps_[l].data()};
    }
}

int64_t Matcher::reachable(int64_t window) const {
    const LevelShape& finest = shape_.levels()[0];
    if (window < 0) return finest.height * finest.width;
    const auto fewest = [&](int64_t cells, int64_t size) {  // a query in either end cell sees least
        const int64_t side = int64_t{1} << shape_.depth(), seen = std::min(window + 1, cells);
        return std::min(std::min(seen * side, size), size - (cells - seen) * side);
    };
    return fewest(shape_.cell_rows(), finest.height) * fewest(shape_.cell_columns(), finest.width);
}

void Matcher::match(std::span<const QueryLevel> query, std::span<const int64_t> image_ids, int64_t kappa,
                    int64_t window, double* distances, int32_t* neighbours) {
    const std::lock_guard turn(turn_);
    MatchTask task = task_;
    task.image_ids = image_ids.data();
    task.image_count = static_cast<int64_t>(image_ids.size());
    task.kappa = kappa;
    task.window = window;

    const auto share_start = [&](int64_t i) { return shape_.cells() * i / pool_.size(); };
    Neighbour* best = best_.reserve(shape_.positions(0) * kappa);
    pool_.run([&](int i) { encode(query, share_start(i), share_start(i + 1)); });
    pool_.run([&](int i) {
        const int64_t first = share_start(i), count = share_start(i + 1) - first;
        if (count == 0) return;
        float* workspace = workspaces_[i].reserve(kernels_.share_floats(task, first, count));
        kernels_.match(task, {first, count, best + first * shape_.block(0) * kappa, workspace});
        collect(kappa, first, first + count, distances, neighbours);
    });
}

// (channels, height, width) to (positions, channels), in cells [first_cell, last_cell).
void Matcher::encode(std::span<const QueryLevel> query, int64_t first_cell, int64_t last_cell) {
    for (int64_t l = 0; l < shape_.level_count(); ++l) {
        const LevelShape& level = shape_.levels()[l];
        const int64_t plane = level.height * level.width;
        const bool half = query[l].storage == Storage::float16;
        const auto* floats = static_cast<const float*>(query[l].data);
        const auto* halves = static_cast<const uint16_t*>(query[l].data);
        for (int64_t i = first_cell * shape_.block(l); i < last_cell * shape_.block(l); ++i) {
            float* row = encoded_[l].data() + i * level.channels;
            const int64_t raster = shape_.raster(l)[i];
            bool finite = true;
            for (int64_t c = 0; c < level.channels; ++c) {
                const int64_t at = c * plane + raster;
                row[c] = raster < 0 ? 0.0f : half ? half_to_float(halves[at]) : floats[at];
                finite &= std::isfinite(row[c]);
            }
            if (finite) continue;
            const int64_t c =
                std::find_if_not(row, row + level.channels, [](float x) { return std::isfinite(x); }) - row;
            throw NotFinite{l, c, raster / level.width, raster % level.width};
        }
    }
}

void Matcher::collect(int64_t kappa, int64_t first_cell, int64_t last_cell, double* distances,
                      int32_t* neighbours) const {
    const int64_t width = shape_.levels()[0].width;
    for (int64_t i = first_cell * shape_.block(0); i < last_cell * shape_.block(0); ++i) {
        const int64_t raster = shape_.raster(0)[i];
        if (raster < 0) continue;
        const Neighbour* best = best_.data() + i * kappa;
        if (!std::isfinite(best[kappa - 1].distance))
            throw std::runtime_error("gallery: expected finite features, got NaN or infinity");
        double sum = 0;
        int32_t* out = neighbours + raster * kappa * 3;
        for (int64_t k = 0; k < kappa; ++k, out += 3) {
            sum += best[k].distance;
            out[0] = best[k].image;
            out[1] = static_cast<int32_t>(best[k].raster / width);
            out[2] = static_cast<int32_t>(best[k].raster % width);
        }
        distances[raster] = sum / static_cast<double>(kappa);
    }
}

// Half-pixel centres: finest pixel y lies at (y + 0.5) / 2^shift - 0.5 of the level, clamped to its edge.
std::vector<Taps> Matcher::taps_of(int64_t l) const {
    const LevelShape& level = shape_.levels()[l];
    const int64_t width = shape_.levels()[0].width;
    std::vector<int32_t> position_of(level.height * level.width);
    for (int64_t i = 0; i < shape_.positions(l); ++i)
        if (shape_.raster(l)[i] >= 0) position_of[shape_.raster(l)[i]] = static_cast<int32_t>(i);
    const auto along = [&](int64_t p, int64_t size) {
        const double at = std::clamp((static_cast<double>(p) + 0.5) / std::exp2(level.shift) - 0.5, 0.0,
                                     static_cast<double>(size - 1));
        const auto low = static_cast<int64_t>(at);
        return std::pair(low, at - static_cast<double>(low));
    };
    std::vector<Taps> taps(shape_.positions(0));
    for (size_t i = 0; i < taps.size(); ++i) {
        const int64_t raster = shape_.raster(0)[i];
        if (raster < 0) continue;
        const auto [y, down] = along(raster / width, level.height);
        const auto [x, right] = along(raster % width, level.width);
        for (int t = 0; t < 4; ++t) {
            const int64_t ty = std::min(y + t / 2, level.height - 1), tx = std::min(x + t % 2, level.width - 1);
            taps[i].position[t] = position_of[ty * level.width + tx];
            taps[i].weight[t] = static_cast<float>((t / 2 ? down : 1 - down) * (t % 2 ? right : 1 - right));
        }
    }
    return taps;
}

}  // namespace spadeline
