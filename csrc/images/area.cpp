#include "images/area.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "matcher/share_out.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

// Rows of the picture that a worker takes at a time. The frame's row between two pieces is summed for both of them.
constexpr int64_t kPieceRows = 16;
// Smaller frames are shrunk by the caller's thread: waking a team up takes longer than what it saves.
constexpr int64_t kLeastShared = 2 << 20;  // bytes, which take 0.25 ms
// A part of a pixel that is no larger than this isn't summed.
constexpr double kLeastPart = 1e-3;
// The largest sum of bytes that float32 holds exactly, whatever the bytes are, is that of so many.
constexpr int64_t kMostExact = (1 << 24) / 255;

// How much longer one side is, as OpenCV computes it: a whole number may be missed by its last bits.
double ratio(int64_t length, int64_t target) { return 1 / (static_cast<double>(target) / static_cast<double>(length)); }

int64_t whole_ratio(int64_t length, int64_t target) {
    const double scale = ratio(length, target), whole = std::nearbyint(scale);
    return std::abs(scale - whole) < std::numeric_limits<double>::epsilon() ? static_cast<int64_t>(whole) : 0;
}

void check(PictureSize frame, PictureSize out, int64_t channels) {
    const auto text = [](PictureSize size) { return std::to_string(size.height) + " x " + std::to_string(size.width); };
    if (frame.height < 1 || frame.width < 1 || frame.height > kMostSide || frame.width > kMostSide)
        throw std::invalid_argument("frame: expected sides from 1 to " + std::to_string(kMostSide) + ", got " +
                                    text(frame));
    if (out.height < 1 || out.width < 1 || out.height > frame.height || out.width > frame.width)
        throw std::invalid_argument("out: expected sides from 1 to the frame's " + text(frame) + ", got " + text(out));
    if (channels != 1 && channels != 3 && channels != 4)
        throw std::invalid_argument("channels: expected 1, 3 or 4, got " + std::to_string(channels));
}

}  // namespace

// The pixels along one side that a pixel of the picture is the weighted sum of.
struct AreaResize::Taps {
    int64_t first;
    std::vector<float> weights;

    // Of whole numbers of pixels: their plain sum.
    static std::vector<Taps> of_whole(int64_t target, int64_t whole) {
        std::vector<Taps> all;
        for (int64_t i = 0; i < target; ++i) all.push_back({i * whole, std::vector<float>(whole, 1)});
        return all;
    }

    // Pixel i covers [begin, end) of the side: whole pixels, and parts of one before and one behind them.
    static std::vector<Taps> of(int64_t length, int64_t target) {
        const double scale = ratio(length, target);
        std::vector<Taps> all;
        for (int64_t i = 0; i < target; ++i) {
            const double begin = static_cast<double>(i) * scale, end = begin + scale;
            const double cell = std::min(scale, static_cast<double>(length) - begin);
            const int64_t behind = std::min(static_cast<int64_t>(std::floor(end)), length - 1);
            const int64_t whole = std::min(static_cast<int64_t>(std::ceil(begin)), behind);
            const double before = static_cast<double>(whole) - begin, rest = end - static_cast<double>(behind);
            Taps taps{whole, {}};
            if (before > kLeastPart) {
                taps.first -= 1;
                taps.weights.push_back(static_cast<float>(before / cell));
            }
            taps.weights.insert(taps.weights.end(), behind - whole, static_cast<float>(1 / cell));
            if (rest > kLeastPart) taps.weights.push_back(static_cast<float>(std::min({rest, 1.0, cell}) / cell));
            all.push_back(std::move(taps));
        }
        return all;
    }

    static int64_t most(const std::vector<Taps>& all) {
        size_t most = 0;
        for (const Taps& taps : all) most = std::max(most, taps.weights.size());
        return static_cast<int64_t>(most);
    }
};

AreaResize::AreaResize(const Kernels& kernels, PictureSize frame, PictureSize out, int64_t channels)
    : kernels_(kernels), frame_(frame), out_(out) {
    check(frame, out, channels);
    whole_y_ = whole_ratio(frame.height, out.height);
    whole_x_ = whole_ratio(frame.width, out.width);
    if (!whole_y_ || !whole_x_) whole_y_ = whole_x_ = 0;
    task_.width = frame.width;
    task_.channels = channels;
    task_.columns = out.width;
    task_.scale = 1;
    const int64_t area = whole_y_ * whole_x_;
    if (!area) {
        lay_out(Taps::of(frame.width, out.width), Taps::of(frame.height, out.height));
    } else if (area <= kMostExact) {
        task_.scale = 1 / static_cast<float>(area);  // sums of bytes are exact
        task_.halves = whole_y_ == 2 && whole_x_ == 2;
        lay_out(Taps::of_whole(out.width, whole_x_), Taps::of_whole(out.height, whole_y_));
    }
}

void AreaResize::lay_out(const std::vector<Taps>& columns, const std::vector<Taps>& rows) {
    const int64_t lanes = kernels_.lanes, pixels = lanes / 4, bytes = task_.channels == 3 ? 3 : 4;
    const int64_t window = 16 / bytes;  // taps
    task_.slots = round_up(out_.width, lanes);
    task_.taps = Taps::most(columns);
    at_.assign(task_.slots, 0);
    float* weights = weights_.reserve(4 * task_.taps * task_.slots);
    std::fill_n(weights, 4 * task_.taps * task_.slots, 0.0f);
    for (int64_t slot = 0; slot < task_.slots; ++slot) {
        // The slots of a block are the pixels of four registers. Where gray rows are turned (Op::turn4), pixel p of
        // register i becomes lane 4 p + i.
        const int64_t block = slot / lanes, i = slot % lanes / pixels, p = slot % pixels;
        const int64_t x = block * lanes + (task_.channels == 1 ? 4 * p + i : slot % lanes);
        if (x >= out_.width) continue;
        at_[slot] = static_cast<int32_t>(columns[x].first * bytes);
        const auto count = static_cast<int64_t>(columns[x].weights.size());
        for (int64_t k = 0; k < count; ++k) {
            // The order of their use: block, window, register, tap, pixel.
            const int64_t first = k / window * window, taps = std::min(window, task_.taps - first);
            const int64_t before = (block * task_.taps + first) * 4 + i * taps + k - first;  // registers
            std::fill_n(weights + before * lanes + 4 * p, 4, columns[x].weights[k]);
        }
    }
    task_.read = *std::max_element(at_.begin(), at_.end()) + (task_.taps - 1) / window * window * bytes + 16;
    task_.read = std::max(task_.read, task_.width * bytes);
    task_.row_taps = Taps::most(rows);
    for (const Taps& taps : rows) {
        first_row_.push_back(taps.first);
        row_count_.push_back(static_cast<int64_t>(taps.weights.size()));
        row_weights_.insert(row_weights_.end(), taps.weights.begin(), taps.weights.end());
        row_weights_.resize(first_row_.size() * task_.row_taps);
    }
    task_.at = at_.data();
    task_.weights = weights_.data();
    task_.first_row = first_row_.data();
    task_.row_count = row_count_.data();
    task_.row_weights = row_weights_.data();
}

int64_t AreaResize::floats(const ThreadPool* pool) const {
    return task_.slots ? (pool ? pool->size() : 1) * round_up(kernels_.area_floats(task_), 16) : 0;
}

void AreaResize::make(const uint8_t* pixels, int64_t pitch, uint8_t* out, float* workspace, ThreadPool* pool) const {
    const int64_t row = frame_.width * task_.channels;
    if (frame_ == out_ && task_.channels != 4) {
        for (int64_t y = 0; y < frame_.height; ++y) std::memcpy(out + y * row, pixels + y * pitch, row);
        return;
    }
    if (!task_.slots) return sum_whole(pixels, pitch, out);
    const AreaFrame frame{pixels, pitch, pixels + (frame_.height - 1) * pitch + row, out};
    if (frame_.height * row < kLeastShared) pool = nullptr;
    if (!pool) return kernels_.area_rows(task_, frame, 0, out_.height, workspace);
    const int64_t floats = round_up(kernels_.area_floats(task_), 16);
    share_out(pool, ceil_div(out_.height, kPieceRows), [&](int worker, int64_t i) {
        kernels_.area_rows(task_, frame, i * kPieceRows, std::min((i + 1) * kPieceRows, out_.height),
                           workspace + worker * floats);
    });
}

void AreaResize::sum_whole(const uint8_t* pixels, int64_t pitch, uint8_t* out) const {
    const int64_t channels = task_.channels, kept = std::min<int64_t>(channels, 3), row = out_.width * kept;
    const float scale = 1 / static_cast<float>(whole_y_ * whole_x_);
    for (int64_t i = 0; i < out_.height * row; ++i) {
        const int64_t y = i / row * whole_y_, x = i % row / kept * whole_x_;
        const uint8_t* first = pixels + y * pitch + x * channels + i % kept;
        int64_t sum = 0;
        for (int64_t j = 0; j < whole_y_; ++j)
            for (int64_t k = 0; k < whole_x_; ++k) sum += first[j * pitch + k * channels];
        out[i] = static_cast<uint8_t>(std::min(std::nearbyint(static_cast<float>(sum) * scale), 255.0f));
    }
}

}  // namespace spadeline
