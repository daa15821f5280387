#include "library/recipe/geometry.hpp"

#include <algorithm>

#include "library/recipe/json.hpp"
#include "matcher/codes.hpp"
#include "matcher/encoder.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {
namespace {

constexpr int64_t kMostChannels = int64_t{1} << 20;  // bounds the memory that a recipe makes a reader take
constexpr int64_t kLargestStride = 64;               // input pixels for one of the finest level, along a side

std::string text(int64_t height, int64_t width) { return std::to_string(height) + " x " + std::to_string(width); }

// Sizes in the order of `axes`, each from 1 to its limit.
std::vector<int64_t> sides(const std::string& name, const Json& value, const std::vector<std::string>& axes,
                           const std::vector<int64_t>& limits) {
    if (!value.is_array() || value.size() != axes.size())
        throw InputError(name + ": expected (" + listed(axes) + "), got " + shown(value));
    std::vector<int64_t> found;
    for (size_t i = 0; i < axes.size(); ++i) found.push_back(integer(name + ": " + axes[i], value[i], 1, limits[i]));
    return found;
}

}  // namespace

int64_t ArrayLayout::item() const { return type.back() - '0'; }

int64_t ArrayLayout::bytes() const {
    int64_t bytes = item();
    for (const int64_t side : shape)
        if (__builtin_mul_overflow(bytes, side, &bytes)) return INT64_MAX;  // no file has so many
    return bytes;
}

std::string ArrayLayout::described() const {
    std::vector<std::string> sides;
    for (const int64_t side : shape) sides.push_back(std::to_string(side));
    const std::string name = type == "<f4" ? "float32" : type == "<f2" ? "float16" : type == "|u1" ? "uint8" : "bool";
    return name + " (" + listed(sides) + (shape.size() == 1 ? ",)" : ")");
}

PyramidShape Geometry::pyramid() const {
    std::vector<LevelKind> kinds;
    for (const LevelShape& level : levels) kinds.push_back({level.channels, level.shift});
    return PyramidShape(levels[0].height, levels[0].width, kinds);
}

ArrayLayout Geometry::level_layout(size_t level, int64_t images, Storage storage) const {
    const int depth = levels.back().shift - levels[level].shift;
    const int64_t side = int64_t{1} << depth;
    return {storage == Storage::float16 ? "<f2" : "<f4",
            {images, ceil_div(levels[level].height, side), ceil_div(levels[level].width, side), side * side,
             levels[level].channels}};
}

bool Geometry::can_have_codes() const {
    return std::all_of(levels.begin(), levels.end(), [](const LevelShape& l) { return l.channels <= kMostDims; });
}

CodeLayout Geometry::code_layout(size_t level) const {
    const bool finest = level == 0, coarsest = level + 1 == levels.size();
    const std::vector<int64_t> cells = level_layout(level, 1, Storage::float32).shape;
    const int64_t channels = levels[level].channels, group = group_size(coarsest);
    const int64_t groups = ceil_div(cells[1] * cells[2] * cells[3], group);
    CodeLayout layout;
    // A quarter of the channels, in whole registers; all of them if they are too few for a register.
    layout.directions = finest ? 0 : std::max<int64_t>(channels / 4 / kPanel, 1) * kPanel;
    if (layout.directions > channels) layout.directions = 0;
    if (!finest) layout.projected = {groups, record_bytes(dims_of(channels, layout.directions), group)};
    if (finest || !coarsest) layout.rotated = {groups, record_bytes(dims_of(channels, 0), group)};
    return layout;
}

bool is_level_name(const std::string& name) {
    if (name.size() < 6 || name.size() > 7 || name.compare(0, 5, "layer") != 0 || name[5] == '0') return false;
    return name.find_first_not_of("0123456789", 5) == std::string::npos;
}

void find_shifts(std::vector<LevelShape>& levels) {
    levels[0].shift = 0;
    const LevelShape& finest = levels[0];
    for (size_t l = 1; l < levels.size(); ++l) {
        LevelShape& level = levels[l];
        const auto fits = [&](int shift) {
            const int64_t side = int64_t{1} << shift;
            return level.height == ceil_div(finest.height, side) && level.width == ceil_div(finest.width, side);
        };
        const LevelShape& before = levels[l - 1];
        level.shift = before.shift + 1;
        while (level.shift < 16 && !fits(level.shift)) ++level.shift;
        if (level.shift == 16)
            throw InputError("level " + std::to_string(l) + ": expected the size of level " + std::to_string(l - 1) +
                             " (" + text(before.height, before.width) + ") halved once or more, rounded up, got " +
                             text(level.height, level.width));
    }
}

Geometry geometry_of(const Json& content) {
    const Fields fields(content, {"input_size", "level_names", "level_shapes", "embedding_size"});
    Geometry geometry;
    const std::vector<int64_t> input =
        sides("input_size", fields.at("input_size"), {"H", "W"}, {kLongestSide, kLongestSide});
    geometry.height = input[0];
    geometry.width = input[1];
    if (input[0] * input[1] > kMostPixels)
        throw InputError("input_size: expected at most " + std::to_string(kMostPixels) + " pixels, got " +
                         text(input[0], input[1]));
    const Json& names = array("level_names", fields.at("level_names"));
    const Json& shapes = array("level_shapes", fields.at("level_shapes"));
    if (names.empty() || names.size() != shapes.size())
        throw InputError("level_shapes: expected one shape for each of one or more level names, got " +
                         std::to_string(shapes.size()) + " for " + std::to_string(names.size()));
    for (size_t l = 0; l < names.size(); ++l) {
        const std::string name = names[l].is_string() ? names[l].get<std::string>() : "";
        if (!is_level_name(name))
            throw InputError("level_names: expected 'layer' and a number from 1 to 99, got " + shown(names[l]));
        geometry.level_names.push_back(name);
        const auto shape =
            sides("shape of " + name, shapes[l], {"c", "h", "w"}, {kMostChannels, geometry.height, geometry.width});
        geometry.levels.push_back({shape[0], shape[1], shape[2], 0});
    }
    check_unique("level_names", geometry.level_names);
    const LevelShape& finest = geometry.levels[0];
    if (input[0] > kLargestStride * finest.height || input[1] > kLargestStride * finest.width)
        throw InputError("input_size: expected at most " + std::to_string(kLargestStride) +
                         " times the finest level's " + text(finest.height, finest.width) + ", got " +
                         text(input[0], input[1]));
    geometry.embedding_size = integer("embedding_size", fields.at("embedding_size"), 1, kMostChannels);
    find_shifts(geometry.levels);
    return geometry;
}

}  // namespace spadeline
