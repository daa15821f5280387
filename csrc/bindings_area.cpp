// The Python class that shrinks frames: see images/area.hpp.
#include <mutex>

#include "bindings.hpp"
#include "images/area.hpp"
#include "matcher/aligned.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"

namespace spadeline {
namespace {

// Shrinks frames for callers on any threads. The first of callers at the same time has the team of threads, the
// workspace, and what was laid out for the last frame: a camera's frames have one size. The others have their own
// thread and lay out anew.
class PyAreaResizer {
 public:
    PyAreaResizer(int threads, const std::string& instruction_set)
        : kernels_(kernels_named(instruction_set)), pool_(checked(threads)) {}

    void shrink(const py::array& frame, py::array& out) {
        const bool colour = frame.ndim() == 3;
        if (!is_bytes(frame) || (frame.ndim() != 2 && !(colour && (frame.shape(2) == 3 || frame.shape(2) == 4))) ||
            frame.size() == 0 || !rows_are_whole(frame))
            throw py::value_error("frame: expected uint8 (h, w), (h, w, 3) or (h, w, 4), each row without gaps, got " +
                                  described(frame));
        const std::string shape = colour ? "(H, W, 3)" : "(H, W)";
        if (!is_bytes(out) || !out.writeable() || !(out.flags() & py::array::c_style) || out.ndim() != frame.ndim() ||
            (colour && out.shape(2) != 3))
            throw py::value_error("out: expected C-contiguous writeable uint8 " + shape + ", got " + described(out));
        const PictureSize from{frame.shape(0), frame.shape(1)}, to{out.shape(0), out.shape(1)};
        const int64_t channels = colour ? frame.shape(2) : 1;
        const auto* pixels = static_cast<const uint8_t*>(frame.data());
        const int64_t pitch = frame.strides(0);
        auto* picture = static_cast<uint8_t*>(out.mutable_data());
        const py::gil_scoped_release released;
        const StandardArithmetic arithmetic;
        const std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn) {
            AlignedBuffer<float> workspace;
            const AreaResize resize(kernels_, from, to, channels);
            return resize.make(pixels, pitch, picture, workspace.reserve(resize.floats(nullptr)), nullptr);
        }
        if (!last_ || last_->frame() != from || last_->out() != to || last_->channels() != channels)
            last_ = std::make_unique<AreaResize>(kernels_, from, to, channels);
        ThreadPool* pool = pool_.size() > 1 ? &pool_ : nullptr;
        last_->make(pixels, pitch, picture, workspace_.reserve(last_->floats(pool)), pool);
    }

    const char* instruction_set() const { return kernels_.name; }
    int threads() const { return pool_.size(); }

 private:
    static int checked(int threads) {
        if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
        return threads;
    }

    // Whether a row's pixels lie one behind the other, and no row begins before the last one ends. The stride of a side
    // of one pixel means nothing.
    static bool rows_are_whole(const py::array& frame) {
        const int64_t channels = frame.ndim() == 3 ? frame.shape(2) : 1;
        return (frame.shape(1) == 1 || frame.strides(1) == channels) && (channels == 1 || frame.strides(2) == 1) &&
               (frame.shape(0) == 1 || frame.strides(0) >= frame.shape(1) * channels);
    }

    const Kernels& kernels_;
    std::mutex turn_;  // the others are its owner's
    ThreadPool pool_;
    std::unique_ptr<const AreaResize> last_;
    AlignedBuffer<float> workspace_;
};

}  // namespace

void define_area(py::module_& module) {
    py::class_<PyAreaResizer>(module, "AreaResizer")
        .def(py::init<int, const std::string&>(), py::kw_only(), py::arg("threads"), py::arg("instruction_set"))
        .def("shrink", &PyAreaResizer::shrink, py::arg("frame"), py::kw_only(), py::arg("out"))
        .def_property_readonly("instruction_set", &PyAreaResizer::instruction_set)
        .def_property_readonly("threads", &PyAreaResizer::threads);
}

}  // namespace spadeline
