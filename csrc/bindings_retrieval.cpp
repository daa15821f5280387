// Python's functions that rank retrieved images and score an image by them: see runtime/retrieval.hpp.
#include "bindings.hpp"
#include "matcher/arithmetic.hpp"
#include "runtime/frame_check.hpp"
#include "runtime/retrieval.hpp"

namespace spadeline {
namespace {

const float* embeddings_of(const py::array& array, const char* name, int64_t size) {
    if (!is_float(array) || array.ndim() != 2 || !fits(array, {array.shape(0), size}))
        throw py::value_error(std::string(name) + ": expected C-contiguous float32 (n, " + std::to_string(size) +
                              "), got " + described(array));
    return static_cast<const float*>(array.data());
}

// Returns (ids, squared distances) of the k nearest of some images.
py::tuple nearest_of(const py::array& embeddings, const py::array& embedding, const py::array& ids, int64_t k) {
    if (!is_float(embedding) || embedding.ndim() != 1 || !fits(embedding, {embedding.shape(0)}))
        throw py::value_error("embedding: expected C-contiguous float32 (d,), got " + described(embedding));
    const int64_t size = embedding.shape(0);
    const float* rows = embeddings_of(embeddings, "embeddings", size);
    if (!ids.dtype().is(py::dtype::of<int64_t>()) || ids.ndim() != 1 || !fits(ids, {ids.shape(0)}))
        throw py::value_error("ids: expected C-contiguous int64 (n,), got " + described(ids));
    std::vector<NearImage> candidates;
    for (const int64_t id : std::span(static_cast<const int64_t*>(ids.data()), static_cast<size_t>(ids.shape(0)))) {
        if (id < 0 || id >= embeddings.shape(0))
            throw py::value_error("ids: expected 0 to " + std::to_string(embeddings.shape(0) - 1) + ", got " +
                                  std::to_string(id));
        candidates.push_back({0, id});
    }
    std::span<const NearImage> nearest;
    {
        const py::gil_scoped_release released;
        const StandardArithmetic arithmetic;
        nearest = rank(rows, size, static_cast<const float*>(embedding.data()), candidates, k);
    }
    const auto count = static_cast<py::ssize_t>(nearest.size());
    py::array_t<int64_t> images(count);
    py::array_t<float> squared(count);
    for (py::ssize_t i = 0; i < count; ++i) {
        images.mutable_at(i) = nearest[i].image;
        squared.mutable_at(i) = nearest[i].squared;
    }
    return py::make_tuple(images, squared);
}

double score_of(const py::array& squared, bool root) {
    if (!is_float(squared) || squared.ndim() != 1 || squared.size() == 0 || !fits(squared, {squared.shape(0)}))
        throw py::value_error("squared: expected C-contiguous float32 (k,), got " + described(squared));
    const StandardArithmetic arithmetic;
    return image_score({static_cast<const float*>(squared.data()), static_cast<size_t>(squared.size())}, root);
}

}  // namespace

void define_retrieval(py::module_& module) {
    module.def("nearest_of", nearest_of, "(ids, squared distances) of the k nearest of some rows of the embeddings.",
               py::arg("embeddings"), py::arg("embedding"), py::arg("ids"), py::kw_only(), py::arg("k"));
    module.def("image_score", score_of, "The mean of squared distances, or its root.", py::arg("squared"),
               py::kw_only(), py::arg("root"));
    module.def("largest_embedding", largest_embedding, "The largest magnitude that an embedding's numbers may have.",
               py::arg("size"));
    module.def(
        "check_embeddings",
        [](const std::string& name, const py::array& values, int64_t size) {
            if (!is_float(values) || !(values.flags() & py::array::c_style))
                throw py::value_error(name + ": expected C-contiguous float32, got " + described(values));
            const py::gil_scoped_release released;
            check_embeddings(name, {static_cast<const float*>(values.data()), static_cast<size_t>(values.size())},
                             size);
        },
        "Raises ValueError unless all values lie within the largest magnitude.", py::arg("name"), py::arg("values"),
        py::kw_only(), py::arg("size"));
    module.def("compared_images", compared_images, "Which of so many images the frame check compares with the others.",
               py::arg("count"));
}

}  // namespace spadeline
