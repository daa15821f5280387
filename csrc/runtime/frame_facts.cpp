#include "runtime/frame_facts.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "images/gray_task.hpp"

namespace spadeline {
namespace {

// Where the steps add up to hardly more than rounding makes, their ratio may be any number.
constexpr double kMostSharpness = 1e9;
// Variance that rounding adds to a gray level: 1/12 by its own rounding, and about half as much by that of the colours
// before. If it were left in, more blur would make a picture sharper, from a blur of some eight pixels on.
constexpr double kRounding = 1.0 / 8;

double to_six_digits(double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6).ptr;
    std::from_chars(text, end, value);
    return value;
}

// Pixels that count, and whose neighbours in the image all count, too.
std::vector<uint8_t> inner_of(const std::vector<uint8_t>& counted, PictureSize size) {
    // The image itself, and what lies beside it along one side. Beyond the border nothing is left out.
    const auto with_neighbours = [](const std::vector<uint8_t>& of, int64_t step, int64_t line) {
        std::vector<uint8_t> all = of;
        for (int64_t begin = 0; begin < static_cast<int64_t>(of.size()); begin += line) {
            const int64_t end = begin + line - step;
            for (int64_t i = begin; i < end; ++i) all[i] &= of[i + step];
            for (int64_t i = begin; i < end; ++i) all[i + step] &= of[i];
        }
        return all;
    };
    const std::vector<uint8_t> rows = with_neighbours(counted, 1, size.width);
    return with_neighbours(rows, size.width, size.height * size.width);
}

}  // namespace

FactsMeter::FactsMeter(const Kernels& kernels, PictureSize size, const uint8_t* ignore)
    : kernels_(kernels),
      size_(size),
      counted_pixels_(size.height * size.width),
      inner_pixels_(counted_pixels_),
      gray_(counted_pixels_) {
    if (!ignore) return;
    counted_.resize(gray_.size());
    std::transform(ignore, ignore + gray_.size(), counted_.begin(), [](uint8_t ignored) { return !ignored; });
    inner_ = inner_of(counted_, size);
    counted_pixels_ = std::count(counted_.begin(), counted_.end(), 1);
    inner_pixels_ = std::max<int64_t>(std::count(inner_.begin(), inner_.end(), 1), 1);
}

FrameFacts FactsMeter::measure(const uint8_t* rgb) {
    const bool masked = !counted_.empty();
    kernels_.gray_levels(rgb, size_.height * size_.width, gray_.data());
    const GraySums sums = kernels_.gray_sums({gray_.data(), size_.height, size_.width,
                                              masked ? counted_.data() : nullptr, masked ? inner_.data() : nullptr});
    // The variance of the levels less the whole part of their mean, which is exact where all of them are the same.
    const int64_t count = std::max<int64_t>(counted_pixels_, 1), whole = sums.levels / count;
    const auto number = static_cast<double>(count), inner = static_cast<double>(inner_pixels_);
    const int64_t squares = sums.squares - 2 * whole * sums.levels + whole * whole * counted_pixels_;
    const double rest = static_cast<double>(sums.levels - whole * counted_pixels_) / number;
    const double deviation = std::sqrt(std::max(static_cast<double>(squares) / number - rest * rest, 0.0));
    // The Laplacian's weights are 1, 1, 1, 1 and -4, so rounding adds 20 times its variance to it. The two steps, each
    // between two gray levels, get 4 times the variance.
    const double curved = static_cast<double>(sums.curves) / inner - 20 * kRounding,
                 stepped = static_cast<double>(sums.steps) / inner - 4 * kRounding;
    const double sharpness = curved > 0 && stepped > 0 ? std::min(curved / stepped, kMostSharpness) : 0;
    return {to_six_digits(static_cast<double>(sums.levels) / number), to_six_digits(deviation),
            to_six_digits(sharpness)};
}

}  // namespace spadeline
