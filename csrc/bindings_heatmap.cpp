#include "bindings_heatmap.hpp"

namespace spadeline {

void define_heatmap(py::module_& module) {
    py::class_<PyHeatmap>(module, "Heatmap")
        .def(py::init<PySize, PySize, double, const std::optional<py::array>&, const std::optional<py::array>&, int,
                      const std::string&>(),
             py::arg("distances"), py::arg("size"), py::kw_only(), py::arg("sigma"), py::arg("ignore"),
             py::arg("ignored_distances"), py::arg("threads"), py::arg("instruction_set"))
        .def("map", &PyHeatmap::map, py::arg("distances"), py::kw_only(), py::arg("root"), py::arg("out"))
        .def_property_readonly("instruction_set", &PyHeatmap::instruction_set)
        .def_property_readonly("threads", &PyHeatmap::threads);
}

}  // namespace spadeline
