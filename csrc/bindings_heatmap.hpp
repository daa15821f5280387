// The Python class of the CPU's anomaly map: see matcher/heatmap.hpp.
#pragma once

#include <mutex>

#include "bindings.hpp"
#include "matcher/aligned.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"
#include "matcher/heatmap.hpp"

namespace spadeline {

inline const uint8_t* mask_of(const std::optional<py::array>& array, const char* name, PySize size) {
    if (!array) return nullptr;
    expect(*array, name, array->dtype().is(py::dtype::of<bool>()), "bool", {size.first, size.second});
    return static_cast<const uint8_t*>(array->data());
}

// Makes maps for callers on any threads. The first of callers at the same time has the team of threads and the
// workspace that is kept, the others have their own thread and a workspace for this call.
class PyHeatmap {
 public:
    PyHeatmap(PySize distances, PySize size, double sigma, const std::optional<py::array>& ignore,
              const std::optional<py::array>& ignored_distances, int threads, const std::string& instruction_set)
        : heatmap_(kernels_named(instruction_set), {distances.first, distances.second}, {size.first, size.second},
                   sigma, mask_of(ignore, "ignore", size), mask_of(ignored_distances, "ignored_distances", distances)),
          pool_(checked(threads)) {
        if (ignored_distances) {
            const auto* mask = static_cast<const uint8_t*>(ignored_distances->data());
            ignored_.assign(mask, mask + distances.first * distances.second);
        }
    }

    // Returns the largest distance, or root, that is scored; NaN if one is NaN.
    double map(const py::array& distances, bool root, py::array& out) {
        const auto [height, width] = heatmap_.distances();
        expect(distances, "distances", distances.dtype().is(py::dtype::of<double>()), "float64", {height, width});
        expect(out, "out", is_float(out) && out.writeable(), "writeable float32",
               {heatmap_.map().height, heatmap_.map().width});
        const auto* from = static_cast<const double*>(distances.data());
        auto* to = static_cast<float*>(out.mutable_data());
        const py::gil_scoped_release released;
        pool_.check_process();
        const StandardArithmetic arithmetic;
        const std::unique_lock turn(turn_, std::try_to_lock);
        if (turn) return make(from, root, to, kept_, &pool_);
        AlignedBuffer<float> workspace;
        return make(from, root, to, workspace, nullptr);
    }

    const Heatmap& heatmap() const { return heatmap_; }
    const char* instruction_set() const { return heatmap_.instruction_set(); }
    int threads() const { return pool_.size(); }

 private:
    static int checked(int threads) {
        if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
        return threads;
    }

    double make(const double* distances, bool root, float* map, AlignedBuffer<float>& buffer, ThreadPool* pool) const {
        const auto [height, width] = heatmap_.distances();
        float* workspace = buffer.reserve(heatmap_.floats() + height * width);
        float* values = workspace + heatmap_.floats();
        const double largest =
            map_values(distances, height * width, root, ignored_.empty() ? nullptr : ignored_.data(), values);
        heatmap_.make(values, map, workspace, pool);
        return largest;
    }

    const Heatmap heatmap_;
    std::vector<uint8_t> ignored_;  // (h, w), or empty
    std::mutex turn_;
    ThreadPool pool_;
    AlignedBuffer<float> kept_;
};

}  // namespace spadeline
