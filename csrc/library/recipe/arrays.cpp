#include "library/recipe/arrays.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "library/errors.hpp"
#include "library/recipe/text.hpp"

namespace spadeline {
namespace {

constexpr int64_t kAlignment = 64;  // bytes: the matcher reads whole vectors
constexpr int64_t kStart = 10;      // bytes before the header's text: magic, version, length
constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);

std::string header_of(const ArrayLayout& layout) {
    std::vector<std::string> sides;
    for (const int64_t side : layout.shape) sides.push_back(std::to_string(side));
    return "{'descr': '" + layout.type + "', 'fortran_order': False, 'shape': (" + listed(sides) +
           (sides.size() == 1 ? ",)" : ")") + ", }";
}

std::string_view stripped(std::string_view text) {
    constexpr std::string_view kSpace(" \t\n\r\v\f");
    const size_t first = text.find_first_not_of(kSpace);
    return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

StoredArray::StoredArray(const std::string& folder, const StoredFile& stored, ArrayLayout layout)
    : file_(folder, stored), layout_(std::move(layout)), offset_(check_header()) {
    const int64_t bytes = layout_.bytes();
    if (bytes != file_.size() - offset_)
        throw RecipeError(file_.path() + ": expected " + std::to_string(bytes) + " bytes for " + layout_.described() +
                          " behind the header, got " + std::to_string(file_.size() - offset_));
}

int64_t StoredArray::check_header() const {
    std::string start(static_cast<size_t>(std::min(kStart, file_.size())), '\0');
    file_.fill(start.data(), static_cast<int64_t>(start.size()), 0);
    if (static_cast<int64_t>(start.size()) < kStart || !std::string_view(start).starts_with(kMagic))
        throw RecipeError(file_.path() + ": expected a .npy file of format 1.0, got another one");
    const int64_t length = static_cast<uint8_t>(start[8]) + 256 * static_cast<uint8_t>(start[9]);
    const int64_t offset = kStart + length;
    std::string text(static_cast<size_t>(std::min(length, file_.size() - kStart)), '\0');
    file_.fill(text.data(), static_cast<int64_t>(text.size()), kStart);
    if (stripped(text) != header_of(layout_) || offset % kAlignment)
        throw RecipeError(file_.path() + ": expected " + layout_.described() + " in C order, got the header " +
                          shown(text));
    return offset;
}

void StoredArray::check_finite(const void* data) const {
    const int64_t count = layout_.bytes() / layout_.item(), row = count / layout_.shape[0];
    const auto refuse = [&](int64_t i) {
        throw RecipeError(file_.path() + ": expected finite numbers, got NaN or infinity in row " +
                          std::to_string(i / row));
    };
    if (layout_.type == "<f4") {
        const auto* numbers = static_cast<const float*>(data);
        for (int64_t i = 0; i < count; ++i)
            if (!std::isfinite(numbers[i])) refuse(i);
    } else if (layout_.type == "<f2") {
        const auto* numbers = static_cast<const uint16_t*>(data);
        for (int64_t i = 0; i < count; ++i)
            if ((numbers[i] & 0x7c00) == 0x7c00) refuse(i);
    }
}

}  // namespace spadeline
