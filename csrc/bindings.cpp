// The Python module of the CPU's matcher: it checks arguments, takes pointers, releases the GIL, calls and returns.
// Features and results stay in Python's arrays. The one exception is `encode`, which widens each float16 image to
// float32.
#include "bindings.hpp"
#include "bindings_rounds.hpp"

#include "dlpack.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/device_error.hpp"
#include "matcher/encoder.hpp"
#include "matcher/half.hpp"

namespace py = pybind11;
using namespace spadeline;

namespace {

// Turns a level's vectors into the records of their codes: see matcher/codes.hpp.
py::array encode(const py::array& cells, const py::array& basis, bool coarsest) {
    if (!(is_float(cells) || is_half(cells)) || cells.ndim() != 5 || !(cells.flags() & py::array::c_style))
        throw py::value_error(
            "cells: expected C-contiguous float32 or float16 (n, rows, columns, block, channels), got " +
            described(cells));
    const int64_t images = cells.shape(0), channels = cells.shape(4);
    const int64_t positions = cells.shape(1) * cells.shape(2) * cells.shape(3);
    const int64_t directions = directions_of(basis, channels, "basis");
    const LevelEncoder encoder(*available_kernels().front(), channels, directions,
                               static_cast<const float*>(basis.data()));
    const int64_t group = group_size(coarsest), groups = ceil_div(positions, group);
    const int64_t bytes = groups * encoder.record(group);
    py::array_t<uint8_t> records({images, groups, encoder.record(group)});
    uint8_t* out = records.mutable_data();
    const void* features = cells.data();
    const bool half = is_half(cells);
    const py::gil_scoped_release released;
    std::vector<float> widened(half ? positions * channels : 0);
    for (int64_t n = 0; n < images; ++n) {
        const int64_t first = n * positions * channels;
        const auto* halves = static_cast<const uint16_t*>(features) + first;
        for (size_t i = 0; i < widened.size(); ++i) widened[i] = half_to_float(halves[i]);
        encoder.encode_records(half ? widened.data() : static_cast<const float*>(features) + first, positions, group,
                               out + n * bytes);
    }
    return records;
}

std::unique_ptr<PyMatcher<Matcher>> open_matcher(std::vector<py::array> levels, PySize size,
                                                 const std::vector<int>& shifts, int threads,
                                                 const std::string& instruction_set, const std::string& upsampling,
                                                 const std::vector<double>& weights,
                                                 std::optional<std::vector<PyCodes>> codes) {
    if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
    return std::make_unique<PyMatcher<Matcher>>(PyGallery(std::move(levels), size, shifts, weights, std::move(codes)),
                                                threads, instruction_set, upsampling_of(upsampling));
}

// Returns (address, type as NumPy spells it, shape, strides in bytes or None) of a DLPack capsule. The capsule still
// belongs to its owner.
py::tuple read_dlpack(const py::capsule& capsule) {
    const auto* tensor = static_cast<const dlpack::Tensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (!tensor) throw py::error_already_set();
    const auto& [data, device, dimensions, type, shape, strides, byte_offset] = *tensor;
    const std::string kinds = "iuf";
    const std::string name = (type.code < kinds.size() ? kinds.substr(type.code, 1) : "?") +
                             std::to_string(type.bits / 8) +
                             (type.lanes == 1 ? "" : " x " + std::to_string(type.lanes));
    py::object steps = py::none();
    if (strides) {
        std::vector<int64_t> bytes(strides, strides + dimensions);
        for (int64_t& step : bytes) step *= type.bits / 8 * type.lanes;
        steps = py::tuple(py::cast(bytes));
    }
    return py::make_tuple(reinterpret_cast<uintptr_t>(data) + byte_offset, name,
                          py::tuple(py::cast(std::vector<int64_t>(shape, shape + dimensions))), steps);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "The native matcher. Python code calls it through the Matcher class of spadeline.engine.";
    static_cast<void>(py::register_exception<DeviceError>(module, "DeviceError", PyExc_RuntimeError));
    module.def(
        "instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
            return names;
        },
        "The instruction sets that this machine can run, best first.");
    module.def("read_dlpack", read_dlpack, "(address, type, shape, strides in bytes or None) of a DLPack capsule.",
               py::arg("capsule"));
    module.def("encode", encode, "Records of the codes of a level's cells.", py::arg("cells"), py::arg("basis"),
               py::kw_only(), py::arg("coarsest"));
    define_frames(module);
    define_heatmap(module);
    define_retrieval(module);
    define_verdict(module);
    py::class_<PyMatcher<Matcher>> matcher(module, "Matcher");
    matcher
        .def(py::init(&open_matcher), py::arg("levels"), py::arg("size"), py::arg("shifts"), py::kw_only(),
             py::arg("threads"), py::arg("instruction_set"), py::arg("upsampling"), py::arg("weights"),
             py::arg("codes"))
        .def("match", &PyMatcher<Matcher>::match, py::arg("requests"), py::kw_only(), py::arg("kappa"),
             py::arg("window"), py::arg("ignore"))
        .def("reachable", &PyMatcher<Matcher>::reachable, py::arg("window"))
        .def_property_readonly("instruction_set",
                               [](const PyMatcher<Matcher>& m) { return m.matcher().instruction_set(); })
        .def_property_readonly("threads", [](const PyMatcher<Matcher>& m) { return m.matcher().threads(); });
    define_rounds(matcher);
#ifdef SPADELINE_CUDA
    define_cuda(module);
    module.attr("CUDA") = true;
#else
    module.attr("CUDA") = false;
#endif
}
