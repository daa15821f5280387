// The Python classes of a GPU: the matcher whose gallery lies there, and the inspector of frames whose features lie
// there.
#include "bindings.hpp"
#include "matcher/cuda/inspector.hpp"
#include "matcher/cuda/matcher.hpp"

namespace spadeline {
namespace {

using cuda::CudaMatcher;

std::unique_ptr<PyMatcher<CudaMatcher>> open_cuda_matcher(
    std::vector<py::array> levels, PySize size, const std::vector<int>& shifts, std::optional<int64_t> memory_limit,
    const std::string& upsampling, const std::vector<double>& weights, std::optional<std::vector<PyCodes>> codes) {
    PyGallery source(std::move(levels), size, shifts, weights, std::move(codes));
    return std::make_unique<PyMatcher<CudaMatcher>>(std::move(source), memory_limit, upsampling_of(upsampling));
}

// Inspects frames whose features lie on the device, by their addresses: see matcher/cuda/inspector.hpp.
class PyInspector {
 public:
    PyInspector(PyMatcher<CudaMatcher>& matcher, int64_t images, int64_t kappa, std::optional<int64_t> window,
                PySize size, double sigma, bool root, float theta, const std::optional<py::array>& ignore,
                const std::optional<py::array>& ignored_distances)
        : matcher_(matcher), size_(size), kappa_(kappa) {
        const auto mask = [](const std::optional<py::array>& array, const char* name, int64_t height, int64_t width) {
            if (!array) return static_cast<const uint8_t*>(nullptr);
            expect(*array, name, array->dtype().is(py::dtype::of<bool>()), "bool", {height, width});
            return static_cast<const uint8_t*>(array->data());
        };
        const LevelShape& finest = matcher.matcher().shape().levels()[0];
        inspector_.emplace(
            matcher.matcher(),
            cuda::InspectorOptions{images, kappa, window, size.first, size.second, sigma, root, theta,
                                   mask(ignore, "ignore", size.first, size.second),
                                   mask(ignored_distances, "ignored_distances", finest.height, finest.width)});
    }

    uintptr_t stream() const { return reinterpret_cast<uintptr_t>(inspector_->stream()); }
    void wait_for(uintptr_t stream) {
        const py::gil_scoped_release released;
        inspector_->wait_for(reinterpret_cast<cudaStream_t>(stream));
    }

    void fetch(uintptr_t frame, int64_t pitch, py::array& out) {
        if (out.ndim() < 2 || !out.dtype().is(py::dtype::of<uint8_t>()) || !out.writeable() ||
            !(out.flags() & py::array::c_style))
            throw py::value_error("out: expected writeable contiguous uint8 of two or more dimensions, got " +
                                  described(out));
        const int64_t rows = out.shape(0), row_bytes = rows ? out.nbytes() / rows : 0;
        if (pitch < row_bytes)
            throw py::value_error("pitch: expected at least a row's " + std::to_string(row_bytes) + " bytes, got " +
                                  std::to_string(pitch));
        auto* pixels = static_cast<uint8_t*>(out.mutable_data());
        const py::gil_scoped_release released;
        inspector_->fetch(reinterpret_cast<const void*>(frame), pitch, rows, row_bytes, pixels);
    }

    py::dict inspect(const std::vector<uintptr_t>& levels, bool half, const py::array& image_ids, py::array& map,
                     py::array& mask, py::array& neighbours) {
        const PyramidShape& shape = matcher_.matcher().shape();
        const LevelShape& finest = shape.levels()[0];
        if (static_cast<int64_t>(levels.size()) != shape.level_count())
            throw py::value_error("levels: expected " + std::to_string(shape.level_count()) + " addresses, got " +
                                  std::to_string(levels.size()));
        const auto ids = check_ids(image_ids, matcher_.matcher().images());
        expect(map, "map", is_float(map) && map.writeable(), "writeable float32", {size_.first, size_.second});
        expect(mask, "mask", mask.dtype().is(py::dtype::of<bool>()) && mask.writeable(), "writeable bool",
               {size_.first, size_.second});
        expect(neighbours, "neighbours", neighbours.dtype().is(py::dtype::of<int32_t>()) && neighbours.writeable(),
               "writeable int32", {finest.height, finest.width, kappa_, 3});
        std::vector<const void*> places;
        for (const uintptr_t level : levels) places.push_back(reinterpret_cast<const void*>(level));
        auto* pixels = static_cast<float*>(map.mutable_data());
        auto* above = static_cast<uint8_t*>(mask.mutable_data());
        auto* nearest = static_cast<int32_t*>(neighbours.mutable_data());
        Statistics statistics;
        try {
            const py::gil_scoped_release released;
            statistics =
                inspector_->inspect(places, half ? Storage::float16 : Storage::float32, ids, pixels, above, nearest);
        } catch (const NotFinite& bad) {
            throw not_finite(bad, "query");
        }
        return as_dict(statistics, shape.level_count());
    }

 private:
    PyMatcher<CudaMatcher>& matcher_;
    const PySize size_;
    const int64_t kappa_;
    std::optional<cuda::CudaInspector> inspector_;
};

}  // namespace

void define_cuda(py::module_& module) {
    py::class_<PyMatcher<CudaMatcher>>(module, "CudaMatcher")
        .def(py::init(&open_cuda_matcher), py::arg("levels"), py::arg("size"), py::arg("shifts"), py::kw_only(),
             py::arg("memory_limit"), py::arg("upsampling"), py::arg("weights"), py::arg("codes"))
        .def("match", &PyMatcher<CudaMatcher>::match, py::arg("requests"), py::kw_only(), py::arg("kappa"),
             py::arg("window"), py::arg("ignore"))
        .def("reachable", &PyMatcher<CudaMatcher>::reachable, py::arg("window"))
        .def_property_readonly("architecture",
                               [](const PyMatcher<CudaMatcher>& m) { return m.matcher().architecture(); })
        .def_property_readonly("emulated", [](const PyMatcher<CudaMatcher>&) { return cuda::kEmulated; })
        .def_property_readonly("resident", [](const PyMatcher<CudaMatcher>& m) { return m.matcher().resident(); })
        .def_property_readonly("image_bytes",
                               [](const PyMatcher<CudaMatcher>& m) { return m.matcher().image_bytes(); });
    py::class_<PyInspector>(module, "CudaInspector")
        .def(py::init<PyMatcher<CudaMatcher>&, int64_t, int64_t, std::optional<int64_t>, PySize, double, bool, float,
                      const std::optional<py::array>&, const std::optional<py::array>&>(),
             py::keep_alive<1, 2>(), py::arg("matcher"), py::kw_only(), py::arg("images"), py::arg("kappa"),
             py::arg("window"), py::arg("size"), py::arg("sigma"), py::arg("root"), py::arg("theta"), py::arg("ignore"),
             py::arg("ignored_distances"))
        .def_property_readonly("stream", &PyInspector::stream)
        .def("wait_for", &PyInspector::wait_for, py::arg("stream"))
        .def("fetch", &PyInspector::fetch, py::arg("frame"), py::kw_only(), py::arg("pitch"), py::arg("out"))
        .def("inspect", &PyInspector::inspect, py::arg("levels"), py::kw_only(), py::arg("half"), py::arg("image_ids"),
             py::arg("map"), py::arg("mask"), py::arg("neighbours"));
}

}  // namespace spadeline
