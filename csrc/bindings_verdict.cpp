// Python's functions for what follows a frame's scores: regions and verdicts, and retrieval. See runtime/.
#include <cstring>

#include "bindings.hpp"
#include "matcher/arithmetic.hpp"
#include "runtime/regions.hpp"

namespace spadeline {
namespace {

using PyPlacement = std::tuple<double, double, double, double>;  // scale_y, scale_x, top, left

Placement placement_of(const PyPlacement& p) {
    return {std::get<0>(p), std::get<1>(p), std::get<2>(p), std::get<3>(p)};
}

py::tuple as_tuple(const Box& box) { return py::make_tuple(box.top, box.left, box.bottom, box.right); }

// Returns (area, box, peak, score) of each region. Makes the mask if theta is given.
py::list find_regions(const py::array& map, std::optional<double> theta, py::array& mask, const PyPlacement& placement,
                      PySize frame_size) {
    if (!is_float(map) || map.ndim() != 2 || !fits(map, {map.shape(0), map.shape(1)}))
        throw py::value_error("anomaly_map: expected C-contiguous float32 (H, W), got " + described(map));
    const MapSize size{map.shape(0), map.shape(1)};
    expect(mask, "mask", mask.dtype().is(py::dtype::of<bool>()) && (!theta || mask.writeable()),
           theta ? "writeable bool" : "bool", {size.height, size.width});
    const auto* values = static_cast<const float*>(map.data());
    auto* above = const_cast<uint8_t*>(static_cast<const uint8_t*>(mask.data()));  // not written unless theta is given
    std::optional<RegionFinder> finder;
    std::span<const Region> regions;
    {
        const py::gil_scoped_release released;
        const StandardArithmetic arithmetic;
        const int64_t pixels = size.height * size.width;
        if (theta ? mask_above(values, pixels, *theta, above) : std::memchr(above, 1, pixels) != nullptr) {
            finder.emplace(size);
            regions = finder->find(values, above, placement_of(placement), {frame_size.first, frame_size.second});
        }
    }
    py::list found(regions.size());
    for (size_t i = 0; i < regions.size(); ++i) {
        const Region& r = regions[i];
        found[i] = py::make_tuple(r.area, as_tuple(r.box), py::make_tuple(r.peak_y, r.peak_x), r.score);
    }
    return found;
}

}  // namespace

void define_verdict(py::module_& module) {
    module.def("find_regions", find_regions, "(area, box, peak, score) of a map's regions; makes the mask above theta.",
               py::arg("anomaly_map"), py::arg("theta"), py::kw_only(), py::arg("mask"), py::arg("placement"),
               py::arg("frame_size"));
    module.def(
        "frame_box",
        [](const std::tuple<int64_t, int64_t, int64_t, int64_t>& box, const PyPlacement& placement, PySize frame_size) {
            return as_tuple(frame_box({std::get<0>(box), std::get<1>(box), std::get<2>(box), std::get<3>(box)},
                                      placement_of(placement), {frame_size.first, frame_size.second}));
        },
        "A box (top, left, bottom, right) of the map as one of the frame.", py::arg("box"), py::kw_only(),
        py::arg("placement"), py::arg("frame_size"));
}

}  // namespace spadeline
