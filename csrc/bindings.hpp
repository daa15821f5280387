// What the bindings of the CPU's and of the GPU's matcher share: checks of Python's arguments, the gallery, and the
// Python class around a matcher.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "matcher/codes.hpp"
#include "matcher/matcher.hpp"
#include "matcher/sizes.hpp"

namespace spadeline {

namespace py = pybind11;

inline bool aligned(const py::array& array) { return array.flags() & int{py::detail::npy_api::NPY_ARRAY_ALIGNED_}; }

inline std::string described(const py::array& array) {
    return py::cast<std::string>(py::str(array.dtype())) + " " + py::cast<std::string>(py::str(array.attr("shape"))) +
           (array.flags() & py::array::c_style ? "" : ", not C-contiguous") + (aligned(array) ? "" : ", not aligned");
}

inline std::string joined(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + ")";
}

inline bool fits(const py::array& array, const std::vector<int64_t>& shape) {
    return (array.flags() & py::array::c_style) && aligned(array) &&
           std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim());
}

inline void expect(const py::array& array, const std::string& name, bool right_type, const std::string& types,
                   const std::vector<int64_t>& shape) {
    if (!right_type || !fits(array, shape))
        throw py::value_error(name + ": expected C-contiguous " + types + " " + joined(shape) + ", got " +
                              described(array));
}

inline bool is_native_float(const py::array& array, py::ssize_t bytes) {
    return array.dtype().kind() == 'f' && array.itemsize() == bytes && array.dtype().attr("isnative").cast<bool>();
}
inline bool is_half(const py::array& array) { return is_native_float(array, 2); }
inline bool is_float(const py::array& array) { return is_native_float(array, 4); }

inline bool is_bytes(const py::array& array) { return array.dtype().kind() == 'u' && array.itemsize() == 1; }

inline Upsampling upsampling_of(const std::string& name) {
    if (name != "nearest" && name != "bilinear")
        throw py::value_error("upsampling: expected 'nearest' or 'bilinear', got '" + name + "'");
    return name == "nearest" ? Upsampling::nearest : Upsampling::bilinear;
}

// One level's codes as Python holds them: basis (1 + directions, channels), projected and rotated (n, groups, record).
using PyCodes = std::tuple<py::array, std::optional<py::array>, std::optional<py::array>>;

inline int64_t directions_of(const py::array& basis, int64_t channels, const std::string& name) {
    if (!is_float(basis) || basis.ndim() != 2 || basis.shape(0) < 1 || !fits(basis, {basis.shape(0), channels}))
        throw py::value_error(name + ": expected C-contiguous float32 (1 + directions, " + std::to_string(channels) +
                              "), got " + described(basis));
    return basis.shape(0) - 1;
}

using PySize = std::pair<int64_t, int64_t>;  // (height, width)

// The gallery as Python holds it: its arrays live as long as what reads from them.
class PyGallery {
 public:
    // `size` is the finest level's, `shifts` are every level's halvings from there.
    PyGallery(std::vector<py::array> levels, PySize size, const std::vector<int>& shifts,
              const std::vector<double>& weights, std::optional<std::vector<PyCodes>> codes)
        : levels_(std::move(levels)), codes_(std::move(codes)), shape_(shape_of(levels_, size, shifts)) {
        gallery_.images = levels_[0].shape(0);
        gallery_.storage = is_half(levels_[0]) ? Storage::float16 : Storage::float32;
        for (size_t l = 0; l < levels_.size(); ++l) {
            const bool half = gallery_.storage == Storage::float16;
            expect(levels_[l], "gallery level " + std::to_string(l), half ? is_half(levels_[l]) : is_float(levels_[l]),
                   half ? "float16" : "float32",
                   {gallery_.images, shape_.cell_rows(), shape_.cell_columns(), shape_.block(static_cast<int64_t>(l)),
                    levels_[l].shape(4)});
            gallery_.levels.push_back(levels_[l].data());
        }
        if (weights.size() != levels_.size() || !std::all_of(weights.begin(), weights.end(), [](double w) {
                return w >= kLeastWeight && w <= kMostWeight;
            }))
            throw py::value_error("weights: expected one for each level, " + std::to_string(levels_.size()) +
                                  ", from 1e-6 to 1e6");
        gallery_.weights = weights;
        if (codes_) gallery_.codes = check_codes(*codes_, shape_, gallery_.images);
    }

    const PyramidShape& shape() const { return shape_; }
    const Gallery& gallery() const { return gallery_; }

 private:
    static PyramidShape shape_of(const std::vector<py::array>& levels, PySize size, const std::vector<int>& shifts) {
        if (levels.size() != shifts.size())
            throw py::value_error("shifts: expected one for each of " + std::to_string(levels.size()) +
                                  " levels, got " + std::to_string(shifts.size()));
        std::vector<LevelKind> kinds;
        for (size_t l = 0; l < levels.size(); ++l) {
            if (levels[l].ndim() != 5)
                throw py::value_error("gallery level " + std::to_string(l) +
                                      ": expected (n, rows, columns, block, channels), got " + described(levels[l]));
            kinds.push_back({levels[l].shape(4), shifts[l]});
        }
        return PyramidShape(size.first, size.second, kinds);
    }

    static std::vector<GalleryCodes> check_codes(const std::vector<PyCodes>& codes, const PyramidShape& shape,
                                                 int64_t images) {
        if (codes.size() != shape.levels().size())
            throw py::value_error("codes: expected one for each of " + std::to_string(shape.levels().size()) +
                                  " levels, got " + std::to_string(codes.size()));
        std::vector<GalleryCodes> checked;
        for (size_t l = 0; l < codes.size(); ++l) {
            const auto& [basis, projected, rotated] = codes[l];
            const std::string name = "codes of level " + std::to_string(l);
            const auto level = static_cast<int64_t>(l);
            const bool finest = l == 0, coarsest = level + 1 == shape.level_count();
            const int64_t channels = shape.levels()[l].channels, group = group_size(coarsest);
            const int64_t groups = ceil_div(shape.positions(level), group);
            const int64_t directions = directions_of(basis, channels, name + ", basis");
            const auto records = [&](const std::optional<py::array>& array, const std::string& kind, bool wanted,
                                     int64_t kept) -> const uint8_t* {
                if (array.has_value() != wanted)
                    throw py::value_error(name + ": expected " + (wanted ? "" : "no ") + kind + " codes, got " +
                                          (wanted ? "none" : "some"));
                if (!wanted) return nullptr;
                expect(*array, name + ", " + kind, is_bytes(*array), "uint8",
                       {images, groups, record_bytes(dims_of(channels, kept), group)});
                return static_cast<const uint8_t*>(array->data());
            };
            checked.push_back({static_cast<const float*>(basis.data()), directions,
                               records(projected, "projected", !finest, directions),
                               records(rotated, "rotated", finest || !coarsest, 0)});
        }
        return checked;
    }

    static constexpr double kLeastWeight = 1e-6, kMostWeight = 1e6;  // csrc/README.md's proofs assume these

    std::vector<py::array> levels_;
    std::optional<std::vector<PyCodes>> codes_;
    PyramidShape shape_;
    Gallery gallery_;
};

// A query's levels and image ids, and the arrays that its distances and neighbours are written to.
using PyRequest = std::tuple<std::vector<py::array>, py::array, py::array, py::array>;

inline std::string query_name(size_t count, size_t index) {
    return count == 1 ? "query" : "query " + std::to_string(index) + ",";
}

inline std::vector<QueryLevel> check_query(const std::vector<py::array>& query, const std::string& name,
                                           const PyramidShape& shape) {
    const auto& shapes = shape.levels();
    if (query.size() != shapes.size())
        throw py::value_error("query_levels: expected " + std::to_string(shapes.size()) + " levels, got " +
                              std::to_string(query.size()));
    std::vector<QueryLevel> levels;
    for (size_t l = 0; l < query.size(); ++l) {
        expect(query[l], name + " level " + std::to_string(l), is_float(query[l]) || is_half(query[l]),
               "float32 or float16", {shapes[l].channels, shapes[l].height, shapes[l].width});
        levels.push_back({query[l].data(), is_half(query[l]) ? Storage::float16 : Storage::float32});
    }
    return levels;
}

inline std::span<const int64_t> check_ids(const py::array& image_ids, int64_t images) {
    expect(image_ids, "image_ids", image_ids.dtype().is(py::dtype::of<int64_t>()), "int64", {image_ids.size()});
    const std::span ids(static_cast<const int64_t*>(image_ids.data()), static_cast<size_t>(image_ids.size()));
    std::vector<int64_t> sorted(ids.begin(), ids.end());
    std::sort(sorted.begin(), sorted.end());
    if (sorted.empty() || sorted.front() < 0 || sorted.back() >= images ||
        std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        throw py::value_error("image_ids: expected distinct ids from 0 to " + std::to_string(images - 1) +
                              ", at least one, got " + joined(sorted));
    return ids;
}

inline py::value_error not_finite(const NotFinite& bad, const std::string& name) {
    return py::value_error(
        name + " level " + std::to_string(bad.level) +
        ": expected finite features, got NaN or infinity at (channel, y, x) = " + joined({bad.channel, bad.y, bad.x}));
}

inline py::dict as_dict(const Statistics& statistics, int64_t levels) {
    const auto by_level = [&](const int64_t* counts) {
        return py::tuple(py::cast(std::vector(counts, counts + levels)));
    };
    py::dict result;
    result["pairs"] = statistics.counts.pairs;
    result["passed"] = by_level(statistics.counts.passed);
    result["exact"] = statistics.counts.exact;
    result["guarded_cells"] = statistics.guarded_cells;
    return result;
}

// The Python class around the CPU's or a GPU's matcher.
template <class M>
class PyMatcher {
 public:
    template <class... Options>
    explicit PyMatcher(PyGallery source, Options&&... options)
        : source_(std::move(source)), matcher_([&] {
              const py::gil_scoped_release released;  // held again before an exception drops the arrays
              return M(source_.shape(), source_.gallery(), std::forward<Options>(options)...);
          }()) {}

    // Requests with the levels that they point to.
    struct Requests {
        std::vector<std::vector<QueryLevel>> levels;
        std::vector<Request> requests;
    };

    Requests checked(std::vector<PyRequest>& queries, int64_t kappa, std::optional<int64_t> window,
                     const std::optional<py::array>& ignore) const {
        const PyramidShape& shape = source_.shape();
        const LevelShape& finest = shape.levels()[0];
        if (ignore)
            expect(*ignore, "ignore", ignore->dtype().is(py::dtype::of<bool>()), "bool", {finest.height, finest.width});
        std::vector<std::vector<QueryLevel>> levels;
        std::vector<Request> requests;
        for (auto& [query, image_ids, distances, neighbours] : queries) {
            const std::string name = query_name(queries.size(), levels.size());
            levels.push_back(check_query(query, name, shape));
            const auto ids = check_ids(image_ids, source_.gallery().images);
            const auto most = static_cast<int64_t>(ids.size()) * shape.reachable(window);
            if (kappa < 1 || kappa > most)
                throw py::value_error("kappa: expected 1 to " + std::to_string(most) +
                                      ", the pixels within reach, got " + std::to_string(kappa));
            expect(distances, "distances", distances.dtype().is(py::dtype::of<double>()) && distances.writeable(),
                   "writeable float64", {finest.height, finest.width});
            expect(neighbours, "neighbours", neighbours.dtype().is(py::dtype::of<int32_t>()) && neighbours.writeable(),
                   "writeable int32", {finest.height, finest.width, kappa, 3});
            requests.push_back({{},
                                ids,
                                kappa,
                                window,
                                ignore ? static_cast<const uint8_t*>(ignore->data()) : nullptr,
                                static_cast<double*>(distances.mutable_data()),
                                static_cast<int32_t*>(neighbours.mutable_data())});
        }
        for (size_t i = 0; i < requests.size(); ++i) requests[i].levels = levels[i];
        return {std::move(levels), std::move(requests)};
    }

    // Calls work() without the GIL. `queries`: how many it is about.
    template <class Work>
    void run(size_t queries, const Work& work) {
        try {
            const py::gil_scoped_release released;
            work();
        } catch (const NotFinite& bad) {
            throw not_finite(bad, query_name(queries, static_cast<size_t>(bad.query)));
        }
    }

    // Returns each request's statistics.
    std::vector<py::dict> match(std::vector<PyRequest> queries, int64_t kappa, std::optional<int64_t> window,
                                const std::optional<py::array>& ignore) {
        const Requests checked = this->checked(queries, kappa, window, ignore);
        const std::vector<Request>& requests = checked.requests;
        std::vector<Statistics> statistics(requests.size());
        run(requests.size(), [&] {
            if (requests.size() == 1) {
                statistics[0] = matcher_.match(requests[0]);
            } else {
                matcher_.match_batch(requests, statistics);
            }
        });
        std::vector<py::dict> result;
        for (const Statistics& s : statistics) result.push_back(as_dict(s, source_.shape().level_count()));
        return result;
    }

    int64_t reachable(std::optional<int64_t> window) const { return source_.shape().reachable(window); }
    M& matcher() { return matcher_; }
    const M& matcher() const { return matcher_; }

 private:
    PyGallery source_;
    M matcher_;
};

// Adds what is done with a frame before it is scored: bindings_frames.cpp.
void define_frames(py::module_& module);

// Adds the class of the CPU's anomaly map: bindings_heatmap.cpp.
void define_heatmap(py::module_& module);

// Adds the ranking of retrieved images: bindings_retrieval.cpp.
void define_retrieval(py::module_& module);

// Adds what follows a frame's scores: bindings_verdict.cpp.
void define_verdict(py::module_& module);

// Adds the classes of a GPU. It is defined in bindings_cuda.cpp, which only builds with CUDA have.
void define_cuda(py::module_& module);

}  // namespace spadeline
