// The Python class that shrinks frames: see images/area.hpp.
#include <mutex>

#include "bindings.hpp"
#include "images/area.hpp"
#include "matcher/aligned.hpp"
#include "matcher/arithmetic.hpp"
#include "matcher/cpu/kernels.hpp"

namespace spadeline {
namespace {

// Shrinks frames for callers on any threads. The first of callers at the same time has the team of threads and the
// workspace that is kept, the others have their own thread and a workspace for this call. Frames of a camera have one
// size, so what belongs to the last one is kept.
class PyAreaResizer {
 public:
    PyAreaResizer(int threads, const std::string& instruction_set)
        : kernels_(kernels_named(instruction_set)), pool_(checked(threads)) {}

    void shrink(const py::array& frame, py::array& out) {
        const bool colour = frame.ndim() == 3;
        if (!is_bytes(frame) || (frame.ndim() != 2 && !(colour && frame.shape(2) == 3)) || frame.size() == 0 ||
            !rows_are_whole(frame))
            throw py::value_error("frame: expected uint8 (h, w) or (h, w, 3), each row without gaps, got " +
                                  described(frame));
        const PictureSize from{frame.shape(0), frame.shape(1)};
        std::vector<int64_t> shape{out.ndim() > 0 ? out.shape(0) : 0, out.ndim() > 1 ? out.shape(1) : 0};
        const PictureSize to{shape[0], shape[1]};
        if (colour) shape.push_back(3);
        expect(out, "out", is_bytes(out) && out.writeable(), "writeable uint8", shape);
        const auto* pixels = static_cast<const uint8_t*>(frame.data());
        const int64_t pitch = frame.strides(0);
        auto* picture = static_cast<uint8_t*>(out.mutable_data());
        const py::gil_scoped_release released;
        const StandardArithmetic arithmetic;
        const std::shared_ptr<const AreaResize> resize = opened(from, to, colour ? 3 : 1);
        const std::unique_lock turn(turn_, std::try_to_lock);
        AlignedBuffer<float> own;
        ThreadPool* pool = turn && pool_.size() > 1 ? &pool_ : nullptr;
        resize->make(pixels, pitch, picture, (turn ? kept_ : own).reserve(resize->floats(pool)), pool);
    }

    const char* instruction_set() const { return kernels_.name; }
    int threads() const { return pool_.size(); }

 private:
    static int checked(int threads) {
        if (threads < 1) throw py::value_error("threads: expected at least 1, got " + std::to_string(threads));
        return threads;
    }

    // Whether a row's pixels lie one behind the other, and no row begins before the last one ends.
    static bool rows_are_whole(const py::array& frame) {
        const int64_t channels = frame.ndim() == 3 ? 3 : 1;
        return frame.strides(1) == channels && (channels == 1 || frame.strides(2) == 1) &&
               frame.strides(0) >= frame.shape(1) * channels;
    }

    std::shared_ptr<const AreaResize> opened(PictureSize from, PictureSize to, int64_t channels) {
        const std::lock_guard lock(last_mutex_);
        if (!last_ || last_->frame() != from || last_->picture() != to || last_->channels() != channels)
            last_ = std::make_shared<AreaResize>(kernels_, from, to, channels);
        return last_;
    }

    const Kernels& kernels_;
    std::mutex last_mutex_;
    std::shared_ptr<const AreaResize> last_;
    std::mutex turn_;
    ThreadPool pool_;
    AlignedBuffer<float> kept_;
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
