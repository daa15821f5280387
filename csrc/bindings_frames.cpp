// The Python class that prepares frames, and what is asked of a frame before it is scored: see runtime/frame.hpp,
// runtime/frame_shape.hpp, runtime/frame_facts.hpp and runtime/masks.hpp.
#include <mutex>

#include "bindings.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"
#include "runtime/frame.hpp"
#include "runtime/frame_facts.hpp"
#include "runtime/frame_shape.hpp"
#include "runtime/masks.hpp"

namespace spadeline {
namespace {

PictureSize size_of(const PySize& size) { return {size.first, size.second}; }

Framing framing_of(const std::string& name) {
    if (name == "whole") return Framing::whole;
    if (name == "paper") return Framing::paper;
    throw py::value_error("framing: expected 'whole' or 'paper', got '" + name + "'");
}

Color color_of(const std::string& name) {
    constexpr std::pair<const char*, Color> kColors[] = {
        {"gray", Color::gray}, {"rgb", Color::rgb}, {"bgr", Color::bgr}, {"rgba", Color::rgba}, {"bgra", Color::bgra}};
    for (const auto& [known, color] : kColors)
        if (name == known) return color;
    throw py::value_error("color: expected 'gray', 'rgb', 'bgr', 'rgba' or 'bgra', got '" + name + "'");
}

// Prepares frames for callers on any threads. The first of callers at the same time has the team of threads and what
// was laid out for the last frame: a camera's frames have one size. The others have their own thread and lay out anew.
class PyPreparation {
 public:
    PyPreparation(PySize size, const std::string& framing, int threads, const std::string& instruction_set)
        : kernels_(kernels_named(instruction_set)),
          framing_(framing_of(framing)),
          shared_(kernels_, framing_, size_of(size), threads) {}

    // Returns the placement.
    py::tuple prepare(const py::array& frame, const std::string& color, py::array& out) {
        const Color meaning = color_of(color);
        const int64_t channels = channels_of(meaning);
        if (!is_bytes(frame) || frame.ndim() != (channels == 1 ? 2 : 3) ||
            (channels > 1 && frame.shape(2) != channels) || !rows_are_whole(frame, channels))
            throw py::value_error("frame: expected uint8 " +
                                  (channels == 1 ? "(h, w)" : "(h, w, " + std::to_string(channels) + ")") +
                                  ", each row without gaps, got " + described(frame));
        const PictureSize input = shared_.input();
        expect(out, "out", is_bytes(out) && out.writeable(), "writeable uint8", {input.height, input.width, 3});
        const int64_t height = frame.shape(0), width = frame.shape(1), row = width * channels;
        const FrameView view{static_cast<const uint8_t*>(frame.data()), height, width,
                             height > 1 ? frame.strides(0) : row, meaning};
        auto* rgb = static_cast<uint8_t*>(out.mutable_data());
        const Placement placement = [&] {
            const py::gil_scoped_release released;
            const std::unique_lock turn(turn_, std::try_to_lock);
            return turn ? shared_.prepare(view, rgb) : Preparation(kernels_, framing_, input, 1).prepare(view, rgb);
        }();
        return py::make_tuple(placement.scale_y, placement.scale_x, placement.top, placement.left);
    }

    const char* instruction_set() const { return kernels_.name; }
    int threads() const { return shared_.threads(); }

 private:
    // Whether a row's pixels lie one behind the other, and no row begins before the last one ends. The stride of a side
    // of one pixel means nothing.
    static bool rows_are_whole(const py::array& frame, int64_t channels) {
        return (frame.shape(1) == 1 || frame.strides(1) == channels) && (channels == 1 || frame.strides(2) == 1) &&
               (frame.shape(0) == 1 || frame.strides(0) >= frame.shape(1) * channels);
    }

    const Kernels& kernels_;
    const Framing framing_;
    std::mutex turn_;  // shared_ is its owner's
    Preparation shared_;
};

// Returns (brightness, contrast, sharpness).
py::tuple frame_facts(const py::array& image, const std::optional<py::array>& ignore,
                      const std::string& instruction_set) {
    if (!is_bytes(image) || image.ndim() != 3 || image.shape(2) != 3 || image.size() == 0 ||
        !(image.flags() & py::array::c_style))
        throw py::value_error("image: expected C-contiguous uint8 (H, W, 3), got " + described(image));
    const PictureSize size{image.shape(0), image.shape(1)};
    if (ignore) expect(*ignore, "ignore", ignore->dtype().is(py::dtype::of<bool>()), "bool", {size.height, size.width});
    const Kernels& kernels = kernels_named(instruction_set);
    const FrameFacts facts = [&] {
        const py::gil_scoped_release released;
        const StandardArithmetic arithmetic;
        FactsMeter meter(kernels, size, ignore ? static_cast<const uint8_t*>(ignore->data()) : nullptr);
        return meter.measure(static_cast<const uint8_t*>(image.data()));
    }();
    return py::make_tuple(facts.brightness, facts.contrast, facts.sharpness);
}

using PyPlacement = std::tuple<double, double, double, double>;  // scale_y, scale_x, top, left

const uint8_t* mask_from(const py::array& mask, const char* name) {
    if (mask.ndim() != 2 || !mask.dtype().is(py::dtype::of<bool>()) || !fits(mask, {mask.shape(0), mask.shape(1)}))
        throw py::value_error(std::string(name) + ": expected C-contiguous bool (h, w), got " + described(mask));
    return static_cast<const uint8_t*>(mask.data());
}

py::array_t<bool> as_mask(const std::vector<uint8_t>& pixels, PySize size) {
    py::array_t<bool> mask({size.first, size.second});
    std::copy(pixels.begin(), pixels.end(), mask.mutable_data());
    return mask;
}

py::array_t<bool> mask_under(const py::array& mask, PySize size, const PyPlacement& placement) {
    const auto& [scale_y, scale_x, top, left] = placement;
    const uint8_t* pixels = mask_from(mask, "mask");
    return as_mask(any_under(pixels, {mask.shape(0), mask.shape(1)}, size_of(size), {scale_y, scale_x, top, left}),
                   size);
}

py::array_t<bool> mask_of_distances(const py::array& ignore, PySize size) {
    const uint8_t* pixels = mask_from(ignore, "ignore");
    return as_mask(ignored_distances(pixels, {ignore.shape(0), ignore.shape(1)}, size_of(size)), size);
}

}  // namespace

void define_frames(py::module_& module) {
    py::class_<PyPreparation>(module, "Preparation")
        .def(py::init<PySize, const std::string&, int, const std::string&>(), py::arg("size"), py::kw_only(),
             py::arg("framing"), py::arg("threads"), py::arg("instruction_set"))
        .def("prepare", &PyPreparation::prepare, py::arg("frame"), py::kw_only(), py::arg("color"), py::arg("out"))
        .def_property_readonly("instruction_set", &PyPreparation::instruction_set)
        .def_property_readonly("threads", &PyPreparation::threads);
    py::class_<FrameShapes>(module, "FrameShapes")
        .def(py::init([](const std::vector<PySize>& known, std::optional<PySize> prepared) {
                 std::vector<PictureSize> sizes;
                 for (const PySize& size : known) sizes.push_back(size_of(size));
                 return FrameShapes(std::move(sizes), prepared ? std::optional(size_of(*prepared)) : std::nullopt);
             }),
             py::arg("known"), py::kw_only(), py::arg("prepared"))
        .def(
            "complaint", [](const FrameShapes& shapes, PySize frame) { return shapes.complaint(size_of(frame)); },
            py::arg("frame"));
    module.def(
        "same_proportions", [](PySize a, PySize b) { return same_proportions(size_of(a), size_of(b)); },
        "Whether one size may be the other one scaled.", py::arg("a"), py::arg("b"));
    module.def("any_under", mask_under, "A frame's mask in the input's geometry.", py::arg("mask"), py::arg("size"),
               py::arg("placement"));
    module.def("ignored_distances", mask_of_distances, "Which distances cover ignored pixels alone.", py::arg("ignore"),
               py::arg("size"));
    module.def("frame_facts", frame_facts, "(brightness, contrast, sharpness) of an image.", py::arg("image"),
               py::arg("ignore"), py::kw_only(), py::arg("instruction_set"));
}

}  // namespace spadeline
