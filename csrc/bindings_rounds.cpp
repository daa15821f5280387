// The binding of the matcher's rounds: see matcher/rounds.hpp.
#include "bindings_rounds.hpp"

#include <algorithm>
#include <chrono>

#include "bindings_heatmap.hpp"
#include "matcher/matcher.hpp"

namespace spadeline {
namespace {

using Clock = std::chrono::steady_clock;

Need need_of(const std::string& name) {
    if (name == "map") return Need::map;
    if (name == "mask") return Need::mask;
    if (name == "label") return Need::label;
    throw py::value_error("need: expected 'map', 'mask' or 'label', got '" + name + "'");
}

bool passed(const void* deadline) { return Clock::now() >= *static_cast<const Clock::time_point*>(deadline); }

float* map_of(py::array& array, const char* name, MapSize size) {
    expect(array, name, is_float(array) && array.writeable(), "writeable float32", {size.height, size.width});
    return static_cast<float*>(array.mutable_data());
}

py::dict inspect(PyMatcher<Matcher>& self, PyRequest query, const PyHeatmap& map, py::array upper, py::array lower,
                 const std::string& need, bool root, std::pair<float, float> thresholds,
                 std::optional<double> remaining_s, int64_t kappa, std::optional<int64_t> window,
                 const std::optional<py::array>& ignore) {
    const Clock::time_point start = Clock::now();
    const LevelShape& finest = self.matcher().shape().levels()[0];
    const Heatmap& heatmap = map.heatmap();
    if (heatmap.distances().height != finest.height || heatmap.distances().width != finest.width)
        throw py::value_error("heatmap: expected one of " + joined({finest.height, finest.width}) +
                              " distances, got one of " +
                              joined({heatmap.distances().height, heatmap.distances().width}));
    // Deadlines beyond a day are as good as none, and a time point could not hold all of them.
    constexpr double kLongest = 86400;
    Clock::time_point deadline{};
    Goal goal{&heatmap,
              need_of(need),
              root,
              thresholds.first,
              thresholds.second,
              {},
              map_of(upper, "upper", heatmap.map()),
              map_of(lower, "lower", heatmap.map())};
    if (remaining_s && *remaining_s < kLongest) {
        const std::chrono::duration<double> remaining(std::max(*remaining_s, 0.0));
        deadline = start + std::chrono::duration_cast<Clock::duration>(remaining);
        goal.expiry = {passed, &deadline};
    }
    std::vector<PyRequest> queries{std::move(query)};
    const auto requests = self.checked(queries, kappa, window, ignore);
    Outcome outcome;
    self.run(1, [&] { outcome = self.matcher().inspect(requests.requests[0], goal); });
    py::dict result = as_dict(outcome.statistics, self.matcher().shape().level_count());
    result["passes"] = outcome.passes;
    result["decided"] = outcome.decided;
    result["largest"] = outcome.largest;
    result["map_s"] = outcome.map_seconds;
    return result;
}

}  // namespace

void define_rounds(py::class_<PyMatcher<Matcher>>& matcher) {
    matcher.def("inspect", inspect, py::arg("query"), py::arg("heatmap"), py::arg("upper"), py::arg("lower"),
                py::kw_only(), py::arg("need"), py::arg("root"), py::arg("thresholds"), py::arg("remaining_s"),
                py::arg("kappa"), py::arg("window"), py::arg("ignore"));
}

}  // namespace spadeline
