// Python's door to the matcher: checks arguments, takes pointers, releases the GIL, calls, returns. Copies nothing.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "matcher/matcher.hpp"

namespace py = pybind11;
using namespace spadeline;

namespace {

std::string described(const py::array& array) {
    return py::cast<std::string>(py::str(array.dtype())) + " " + py::cast<std::string>(py::str(array.attr("shape"))) +
           (array.flags() & py::array::c_style ? "" : ", not C-contiguous");
}

std::string joined(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + ")";
}

bool fits(const py::array& array, const std::vector<int64_t>& shape) {
    return (array.flags() & py::array::c_style) &&
           std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim());
}

void expect(const py::array& array, const std::string& name, bool right_type, const std::string& types,
            const std::vector<int64_t>& shape) {
    if (!right_type || !fits(array, shape))
        throw py::value_error(name + ": expected C-contiguous " + types + " " + joined(shape) + ", got " +
                              described(array));
}

bool is_half(const py::array& array) { return array.dtype().kind() == 'f' && array.itemsize() == 2; }
bool is_float(const py::array& array) { return array.dtype().kind() == 'f' && array.itemsize() == 4; }

// The Python object: the arrays it reads from live as long as it does.
class PyMatcher {
 public:
    PyMatcher(std::vector<py::array> levels, const std::vector<std::pair<int64_t, int64_t>>& sizes,
              const std::vector<int>& shifts, int threads, const std::string& instruction_set,
              const std::string& upsampling)
        : levels_(std::move(levels)), matcher_(make(levels_, sizes, shifts, threads, instruction_set, upsampling)) {}

    void match(const std::vector<py::array>& query, const py::array& image_ids, int64_t kappa, int64_t window,
               py::array& distances, py::array& neighbours) {
        const auto& shapes = matcher_.shape().levels();
        if (query.size() != shapes.size())
            throw py::value_error("query_levels: expected " + std::to_string(shapes.size()) + " levels, got " +
                                  std::to_string(query.size()));
        std::vector<QueryLevel> levels;
        for (size_t l = 0; l < query.size(); ++l) {
            expect(query[l], "query level " + std::to_string(l), is_float(query[l]) || is_half(query[l]),
                   "float32 or float16", {shapes[l].channels, shapes[l].height, shapes[l].width});
            levels.push_back({query[l].data(), is_half(query[l]) ? Storage::float16 : Storage::float32});
        }
        expect(image_ids, "image_ids", image_ids.dtype().is(py::dtype::of<int64_t>()), "int64", {image_ids.size()});
        const std::span ids(static_cast<const int64_t*>(image_ids.data()), static_cast<size_t>(image_ids.size()));
        check_ids(ids);
        const auto most = static_cast<int64_t>(ids.size()) * matcher_.reachable(window);
        if (kappa < 1 || kappa > most)
            throw py::value_error("kappa: expected 1 to " + std::to_string(most) + ", the pixels within reach, got " +
                                  std::to_string(kappa));
        expect(distances, "distances", distances.dtype().is(py::dtype::of<double>()) && distances.writeable(),
               "writeable float64", {shapes[0].height, shapes[0].width});
        expect(neighbours, "neighbours", neighbours.dtype().is(py::dtype::of<int32_t>()) && neighbours.writeable(),
               "writeable int32", {shapes[0].height, shapes[0].width, kappa, 3});
        auto* distance_data = static_cast<double*>(distances.mutable_data());
        auto* neighbour_data = static_cast<int32_t*>(neighbours.mutable_data());
        try {
            const py::gil_scoped_release released;
            matcher_.match(levels, ids, kappa, window, distance_data, neighbour_data);
        } catch (const NotFinite& bad) {
            throw py::value_error("query level " + std::to_string(bad.level) + ": expected finite features, got " +
                                  "NaN or infinity at (channel, y, x) = " + joined({bad.channel, bad.y, bad.x}));
        }
    }

    int64_t reachable(int64_t window) const { return matcher_.reachable(window); }
    const char* instruction_set() const { return matcher_.instruction_set(); }
    int threads() const { return matcher_.threads(); }

 private:
    static Matcher make(const std::vector<py::array>& levels, const std::vector<std::pair<int64_t, int64_t>>& sizes,
                        const std::vector<int>& shifts, int threads, const std::string& instruction_set,
                        const std::string& upsampling) {
        if (levels.empty() || levels.size() != sizes.size() || levels.size() != shifts.size())
            throw py::value_error("levels: expected one size and one shift for each of at least one level");
        std::vector<LevelShape> shapes;
        for (size_t l = 0; l < levels.size(); ++l) {
            if (levels[l].ndim() != 5)
                throw py::value_error("gallery level " + std::to_string(l) +
                                      ": expected (n, rows, columns, block, channels), got " + described(levels[l]));
            shapes.push_back({levels[l].shape(4), sizes[l].first, sizes[l].second, shifts[l]});
        }
        PyramidShape shape(std::move(shapes));
        Gallery gallery;
        gallery.images = levels[0].shape(0);
        gallery.storage = is_half(levels[0]) ? Storage::float16 : Storage::float32;
        for (size_t l = 0; l < levels.size(); ++l) {
            const bool half = gallery.storage == Storage::float16;
            expect(levels[l], "gallery level " + std::to_string(l), half ? is_half(levels[l]) : is_float(levels[l]),
                   half ? "float16" : "float32",
                   {gallery.images, shape.cell_rows(), shape.cell_columns(), shape.block(static_cast<int64_t>(l)),
                    levels[l].shape(4)});
            gallery.levels.push_back(levels[l].data());
        }
        if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
        if (upsampling != "nearest" && upsampling != "bilinear")
            throw py::value_error("upsampling: expected 'nearest' or 'bilinear', got '" + upsampling + "'");
        return Matcher(std::move(shape), std::move(gallery), threads, instruction_set,
                       upsampling == "nearest" ? Upsampling::nearest : Upsampling::bilinear);
    }

    void check_ids(std::span<const int64_t> ids) const {
        std::vector<int64_t> sorted(ids.begin(), ids.end());
        std::sort(sorted.begin(), sorted.end());
        if (sorted.empty() || sorted.front() < 0 || sorted.back() >= matcher_.images() ||
            std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
            throw py::value_error("image_ids: expected distinct ids from 0 to " +
                                  std::to_string(matcher_.images() - 1) + ", at least one, got " + joined(sorted));
    }

    std::vector<py::array> levels_;
    Matcher matcher_;
};

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "The native matcher. spadeline.engine.matching is its typed door.";
    module.def(
        "instruction_sets",
        [] {
            std::vector<std::string> names;
            for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
            return names;
        },
        "The instruction sets that this machine can run, best first.");
    py::class_<PyMatcher>(module, "Matcher")
        .def(py::init<std::vector<py::array>, const std::vector<std::pair<int64_t, int64_t>>&, const std::vector<int>&,
                      int, const std::string&, const std::string&>(),
             py::arg("levels"), py::arg("sizes"), py::arg("shifts"), py::kw_only(), py::arg("threads"),
             py::arg("instruction_set"), py::arg("upsampling"))
        .def("match", &PyMatcher::match, py::arg("query_levels"), py::arg("image_ids"), py::kw_only(), py::arg("kappa"),
             py::arg("window"), py::arg("distances"), py::arg("neighbours"))
        .def("reachable", &PyMatcher::reachable, py::arg("window"))
        .def_property_readonly("instruction_set", &PyMatcher::instruction_set)
        .def_property_readonly("threads", &PyMatcher::threads);
}
