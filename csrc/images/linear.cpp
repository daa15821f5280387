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

// A pixel loses four of its bits: what is left are 15, which a vector's lane of 16 multiplies.
template <int kChannels>
void LinearResize::enlarge_row(const uint8_t* row, int16_t* out) const {
    for (const Mix& mix : columns_) {
        const uint8_t *a = row + mix.at * kChannels, *b = row + mix.next * kChannels;
        for (int c = 0; c < kChannels; ++c)
            out[c] = static_cast<int16_t>((a[c] * mix.first + b[c] * mix.second) >> (kBits - 7));
        out += kChannels;
    }
}

void LinearResize::make(const uint8_t* pixels, uint8_t* out, int16_t* workspace) const {
    const int64_t length = out_.width * channels_;
    int16_t* lines[2] = {workspace, workspace + length};  // row i of the picture is line i % 2
    int64_t held[2] = {-1, -1};
    for (const Mix& mix : rows_) {
        for (const int64_t row : {mix.at, mix.next}) {
            if (held[row % 2] == row) continue;
            const uint8_t* line = pixels + row * picture_.width * channels_;
            channels_ == 1 ? enlarge_row<1>(line, lines[row % 2]) : enlarge_row<3>(line, lines[row % 2]);
            held[row % 2] = row;
        }
        const int16_t *a = lines[mix.at % 2], *b = lines[mix.next % 2];
        const auto first = static_cast<int16_t>(mix.first), second = static_cast<int16_t>(mix.second);
        for (int64_t i = 0; i < length; ++i) {
            // Each product loses 16 bits by itself, and their sum two, as OpenCV's do.
            const int sum = ((a[i] * first) >> 16) + ((b[i] * second) >> 16);
            out[i] = static_cast<uint8_t>((sum + 2) >> 2);
        }
        out += length;
    }
}

}  // namespace spadeline
