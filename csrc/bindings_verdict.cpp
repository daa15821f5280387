// Python's functions for what follows a frame's scores: its regions, and its verdict. See runtime/regions.hpp,
// runtime/frame_check.hpp and runtime/verdict.hpp.
#include <cstring>

#include "bindings.hpp"
#include "matcher/arithmetic.hpp"
#include "runtime/frame_check.hpp"
#include "runtime/regions.hpp"
#include "runtime/verdict.hpp"

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

using PyFacts = std::tuple<double, double, double>;  // brightness, contrast, sharpness
// darkest, brightest, least_contrast, least_sharpness, farthest
using PyLimits = std::tuple<double, double, double, double, std::optional<double>>;

FrameFacts facts_of(const PyFacts& facts) { return {std::get<0>(facts), std::get<1>(facts), std::get<2>(facts)}; }

FrameLimits limits_of(const PyLimits& limits) {
    const auto& [darkest, brightest, least_contrast, least_sharpness, farthest] = limits;
    return {darkest, brightest, least_contrast, least_sharpness, farthest};
}

PyLimits frame_limits(const std::vector<PyFacts>& facts, std::optional<double> nearest) {
    if (facts.empty()) throw py::value_error("facts: expected those of one image or more, got none");
    std::vector<FrameFacts> images;
    for (const PyFacts& image : facts) images.push_back(facts_of(image));
    const FrameLimits limits = FrameLimits::of(images, nearest);
    return {limits.darkest, limits.brightest, limits.least_contrast, limits.least_sharpness, limits.farthest};
}

py::tuple excess_of(const PyLimits& limits, const PyFacts& facts, double distance) {
    const Excess excess = limits_of(limits).excess(facts_of(facts), distance);
    return py::make_tuple(excess.exposure, excess.contrast, excess.sharpness, excess.unlike);
}

LabelRule rule_of(const std::string& name) {
    if (name == "image") return LabelRule::image;
    if (name == "map") return LabelRule::map;
    if (name == "either") return LabelRule::either;
    throw py::value_error("rule: expected 'image', 'map' or 'either', got '" + name + "'");
}

std::unique_ptr<Judge> open_judge(const std::string& rule, double tau, double theta,
                                  const std::optional<PyLimits>& limits) {
    return std::make_unique<Judge>(rule_of(rule), tau, theta,
                                   limits ? std::optional(limits_of(*limits)) : std::nullopt);
}

Known known_of(double image_score, double nearest_distance, const std::optional<PyFacts>& facts) {
    return {image_score, nearest_distance, facts ? std::optional(facts_of(*facts)) : std::nullopt};
}

// Returns (pred_score, reasons).
py::tuple verdict_of(const Judge& judge, double image_score, double nearest_distance, double map_score,
                     const std::optional<PyFacts>& facts) {
    const StandardArithmetic arithmetic;
    const Verdict verdict = judge.verdict(known_of(image_score, nearest_distance, facts), map_score);
    py::list reasons;
    for (const Reason reason : kReasons)
        if (verdict.reasons.has(reason)) reasons.append(name_of(reason));
    return py::make_tuple(verdict.pred_score, py::tuple(reasons));
}

bool label_known(const Judge& judge, double image_score, double nearest_distance, const std::optional<PyFacts>& facts) {
    const StandardArithmetic arithmetic;
    return judge.label_known(known_of(image_score, nearest_distance, facts));
}

}  // namespace

void define_verdict(py::module_& module) {
    module.def("frame_limits", frame_limits, "The limits that the facts of normal images set.", py::arg("facts"),
               py::arg("nearest"));
    module.def("frame_excess", excess_of, "(exposure, contrast, sharpness, unlike): how far a frame is beyond limits.",
               py::arg("limits"), py::arg("facts"), py::arg("distance"));
    py::class_<Judge>(module, "Judge")
        .def(py::init(&open_judge), py::arg("rule"), py::kw_only(), py::arg("tau"), py::arg("theta"), py::arg("limits"))
        .def("label_known", label_known, py::arg("image_score"), py::arg("nearest_distance"), py::arg("facts"))
        .def("verdict", verdict_of, py::arg("image_score"), py::arg("nearest_distance"), py::arg("map_score"),
             py::arg("facts"));
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
