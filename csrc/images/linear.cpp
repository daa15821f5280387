#include "images/linear.hpp"

#include <algorithm>
#include <cmath>

namespace spadeline {
namespace {

constexpr int kBits = 11;  // weights are whole numbers of 1 / 2^kBits

}  // namespace

LinearResize::LinearResize(PictureSize picture, PictureSize out, int64_t channels)
    : picture_(picture),
      out_(out),
      channels_(channels),
      rows_(mixes(picture.height, out.height, false)),
      columns_(mixes(picture.width, out.width, true)) {}

std::vector<LinearResize::Mix> LinearResize::mixes(int64_t length, int64_t target, bool clamped) {
    const double scale = 1 / (static_cast<double>(target) / static_cast<double>(length));
    std::vector<Mix> all;
    for (int64_t i = 0; i < target; ++i) {
        auto part = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
        const auto at = static_cast<int64_t>(std::floor(part));
        part -= static_cast<float>(at);
        if (clamped && (at < 0 || at >= length - 1)) part = 0;
        const auto weight = [](float value) { return static_cast<int32_t>(std::nearbyint(value * (1 << kBits))); };
        all.push_back({std::clamp<int64_t>(at, 0, length - 1), std::clamp<int64_t>(at + 1, 0, length - 1),
                       weight(1 - part), weight(part)});
    }
    return all;
}

void LinearResize::enlarge_row(const uint8_t* row, int32_t* out) const {
    for (const Mix& mix : columns_) {
        const uint8_t *a = row + mix.at * channels_, *b = row + mix.next * channels_;
        for (int64_t c = 0; c < channels_; ++c) *out++ = a[c] * mix.first + b[c] * mix.second;
    }
}

void LinearResize::make(const uint8_t* pixels, uint8_t* out, int32_t* workspace) const {
    const int64_t length = out_.width * channels_;
    int32_t* lines[2] = {workspace, workspace + length};  // row i of the picture is line i % 2
    int64_t held[2] = {-1, -1};
    for (const Mix& mix : rows_) {
        for (const int64_t row : {mix.at, mix.next}) {
            if (held[row % 2] == row) continue;
            enlarge_row(pixels + row * picture_.width * channels_, lines[row % 2]);
            held[row % 2] = row;
        }
        const int32_t *a = lines[mix.at % 2], *b = lines[mix.next % 2];
        for (int64_t i = 0; i < length; ++i) {
            // Products lose 16 of their 22 bits one by one, and the sum the rest, as OpenCV's do.
            const int32_t first = (mix.first * (a[i] >> 4)) >> 16, second = (mix.second * (b[i] >> 4)) >> 16;
            out[i] = static_cast<uint8_t>((first + second + 2) >> 2);
        }
        out += length;
    }
}

}  // namespace spadeline
