#include "library/extractor.hpp"

#include <algorithm>
#include <cmath>

#include "library/errors.hpp"
#include "library/recipe/text.hpp"
#include "library/session.hpp"
#include "matcher/half.hpp"

namespace spadeline {
namespace {

constexpr size_t kMostLevels = 4;
constexpr size_t kNeighbourhoodDigits = 4;

std::string text_of(const std::vector<int64_t>& shape) {
    std::vector<std::string> sides;
    for (const int64_t side : shape) sides.push_back(side < 0 ? "?" : std::to_string(side));
    return "(" + listed(sides) + ")";
}

std::string type_name(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return "tensor(float)";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return "tensor(float16)";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return "tensor(uint8)";
        default:
            return "another type";
    }
}

struct Tensor {
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::vector<int64_t> shape;
};

Tensor tensor_of(const Ort::TypeInfo& info) {
    if (info.GetONNXType() != ONNX_TYPE_TENSOR) return {};
    const auto tensor = info.GetTensorTypeAndShapeInfo();
    return {tensor.GetElementType(), tensor.GetShape()};
}

bool all_finite(const Ort::Value& value, Storage storage, int64_t count) {
    if (storage == Storage::float16) {
        const auto* numbers = static_cast<const uint16_t*>(value.GetTensorRawData());
        return std::none_of(numbers, numbers + count, [](uint16_t n) { return (n & 0x7c00) == 0x7c00; });
    }
    const auto* numbers = value.GetTensorData<float>();
    return std::all_of(numbers, numbers + count, [](float n) { return std::isfinite(n); });
}

std::vector<uint8_t> noise(size_t size) {
    std::vector<uint8_t> bytes(size);
    uint32_t state = 1;
    for (uint8_t& byte : bytes) {
        state = state * 1664525u + 1013904223u;
        byte = static_cast<uint8_t>(state >> 24);
    }
    return bytes;
}

}  // namespace

struct Extractor::Session : OrtSession {
    explicit Session(OrtSession&& other) : OrtSession(std::move(other)) {}
};

Extractor::Extractor(const Recipe& recipe, int threads)
    : path_(recipe.extractor_path()),
      session_(std::make_shared<Session>(std::move(*open_session(recipe.extractor, path_, threads)))) {
    const Ort::ModelMetadata metadata = session_->session.GetModelMetadata();
    Ort::AllocatorWithDefaultOptions allocator;
    for (const auto& key : metadata.GetCustomMetadataMapKeysAllocated(allocator))
        metadata_[key.get()] = metadata.LookupCustomMetadataMapAllocated(key.get(), allocator).get();
    check_input();
    check_outputs();
    if (const auto found = metadata_.find("spadeline.neighbourhood"); found != metadata_.end()) {
        const std::optional<int64_t> neighbourhood = counted(found->second, kNeighbourhoodDigits);
        if (!neighbourhood)
            throw ExtractorError(path_ + ": metadata spadeline.neighbourhood: expected a number from 1, got " +
                                 shown(found->second));
        neighbourhood_ = *neighbourhood;
    }
    try_out(recipe);
}

Extractor::~Extractor() = default;

std::string Extractor::precision() const {
    const auto found = metadata_.find("spadeline.precision");
    if (found != metadata_.end()) return found->second;
    return storage_[0] == Storage::float16 ? "float16" : "float32";
}

void Extractor::check_input() {
    Ort::Session& session = session_->session;
    Ort::AllocatorWithDefaultOptions allocator;
    if (session.GetInputCount() != 1)
        throw ExtractorError(path_ + ": expected one input, got " + std::to_string(session.GetInputCount()));
    const std::string name = session.GetInputNameAllocated(0, allocator).get();
    if (name != "image") throw ExtractorError(path_ + ": expected an input named 'image', got " + shown(name));
    const auto [type, shape] = tensor_of(session.GetInputTypeInfo(0));
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
        throw ExtractorError(path_ + ": input 'image': expected tensor(uint8), got " + type_name(type));
    if (shape.size() != 4 || shape[3] != 3 || shape[1] < 1 || shape[2] < 1)
        throw ExtractorError(path_ + ": input 'image': expected (n, H, W, 3) with H and W fixed, got " +
                             text_of(shape));
    if (shape[0] >= 0)
        throw ExtractorError(path_ + ": input 'image': expected n free, got n = " + std::to_string(shape[0]));
    height_ = shape[1];
    width_ = shape[2];
    if (height_ > kMostPixels || width_ > kMostPixels || height_ * width_ > kMostPixels)
        throw ExtractorError(path_ + ": input 'image': expected at most " + std::to_string(kMostPixels) +
                             " pixels, got " + std::to_string(height_) + " x " + std::to_string(width_));
}

void Extractor::check_outputs() {
    Ort::Session& session = session_->session;
    Ort::AllocatorWithDefaultOptions allocator;
    const size_t count = session.GetOutputCount();
    for (size_t i = 0; i < count; ++i) {
        names_.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
        const auto type = tensor_of(session.GetOutputTypeInfo(i)).type;
        if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16)
            throw ExtractorError(path_ + ": output " + shown(names_[i]) + ": expected float32 or float16, got " +
                                 type_name(type));
        storage_.push_back(type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 ? Storage::float16 : Storage::float32);
    }
    if (count == 0 || names_.back() != "embedding")
        throw ExtractorError(path_ + ": expected the last output to be 'embedding', got " +
                             (count ? shown(names_.back()) : "no output"));
    if (count < 2 || count > kMostLevels + 1)
        throw ExtractorError(path_ + ": expected 1 to " + std::to_string(kMostLevels) +
                             " levels before 'embedding', got " + std::to_string(count - 1));
    for (size_t i = 0; i + 1 < count; ++i) {
        if (!is_level_name(names_[i]))
            throw ExtractorError(path_ + ": expected levels named 'layer1', 'layer2', …, got " + shown(names_[i]));
        if (storage_[i] != storage_[0]) throw ExtractorError(path_ + ": expected levels of one number type, got two");
    }
}

// Runs noise through the graph, and checks what its declarations don't guarantee.
void Extractor::try_out(const Recipe& recipe) {
    struct Trial {  // outlives this call if the graph can't be stopped
        std::shared_ptr<Session> session;
        std::vector<std::string> names;
        std::vector<uint8_t> images;
        std::vector<int64_t> shape;
        Ort::RunOptions options;
        std::vector<Ort::Value> outputs;
    };
    for (const int64_t count : {2, 1}) {
        const auto trial = std::make_shared<Trial>();
        trial->session = session_;
        trial->names = names_;
        trial->images = noise(static_cast<size_t>(count * height_ * width_ * 3));
        trial->shape = {count, height_, width_, 3};
        try {
            within_limit(
                path_,
                [trial] {
                    const auto place = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
                    const Ort::Value image = Ort::Value::CreateTensor<uint8_t>(
                        place, trial->images.data(), trial->images.size(), trial->shape.data(), trial->shape.size());
                    const char* input = "image";
                    std::vector<const char*> names;
                    for (const std::string& name : trial->names) names.push_back(name.c_str());
                    trial->outputs =
                        trial->session->session.Run(trial->options, &input, &image, 1, names.data(), names.size());
                },
                [trial] { trial->options.SetTerminate(); });
        } catch (const Ort::Exception& error) {
            refuse(path_, "a graph that runs " + std::to_string(count) + " images", error.what());
        }
        shapes_.clear();
        for (size_t i = 0; i < names_.size(); ++i) {
            const Ort::Value& output = trial->outputs[i];
            std::vector<int64_t> shape = output.GetTensorTypeAndShapeInfo().GetShape();
            const std::string place = path_ + ": output " + shown(names_[i]);
            const bool is_level = i + 1 < names_.size();
            if (shape.size() != (is_level ? 4 : 2) || shape[0] != count ||
                std::find(shape.begin(), shape.end(), 0) != shape.end())
                throw ExtractorError(place + " for n = " + std::to_string(count) + ": expected " +
                                     (is_level ? "(n, c, h, w)" : "(n, d)") + ", got " + text_of(shape));
            int64_t numbers = 1;
            for (const int64_t side : shape) numbers *= side;
            if (!all_finite(output, storage_[i], numbers))
                throw ExtractorError(place + ": expected finite numbers, got NaN or infinity");
            shape[0] = 1;
            shapes_.push_back(std::move(shape));
        }
    }
    const Geometry& geometry = recipe.manifest.geometry;
    std::vector<std::vector<int64_t>> wanted;
    for (const LevelShape& level : geometry.levels) wanted.push_back({1, level.channels, level.height, level.width});
    wanted.push_back({1, geometry.embedding_size});
    if (height_ == geometry.height && width_ == geometry.width && shapes_ == wanted) return;
    const auto described = [](int64_t height, int64_t width, const std::vector<std::vector<int64_t>>& shapes) {
        std::string text = "input " + text_of({height, width}) + ", outputs";
        for (const auto& shape : shapes) text += " " + text_of(shape);
        return text;
    };
    throw RecipeError(path_ + ": expected " + described(geometry.height, geometry.width, wanted) + ", got " +
                      described(height_, width_, shapes_));
}

struct Extraction::Buffers {
    Buffers(const Extractor& extractor) : session(extractor.session_), binding(session->session) {
        const auto place = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
        const std::vector<int64_t> shape{1, extractor.height_, extractor.width_, 3};
        image.resize(static_cast<size_t>(extractor.height_ * extractor.width_ * 3));
        values.push_back(Ort::Value::CreateTensor<uint8_t>(place, image.data(), image.size(), shape.data(), 4));
        binding.BindInput("image", values.back());
        for (size_t i = 0; i < extractor.names_.size(); ++i) {
            const std::vector<int64_t>& output = extractor.shapes_[i];
            int64_t bytes = bytes_of(extractor.storage_[i]);
            for (const int64_t side : output) bytes *= side;
            outputs.emplace_back().reserve(bytes);
            values.push_back(Ort::Value::CreateTensor(
                place, outputs.back().data(), static_cast<size_t>(bytes), output.data(), output.size(),
                extractor.storage_[i] == Storage::float16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                                          : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
            binding.BindOutput(extractor.names_[i].c_str(), values.back());
        }
    }

    std::shared_ptr<Extractor::Session> session;
    Ort::RunOptions options;
    std::vector<uint8_t> image;
    std::vector<AlignedBuffer<uint8_t>> outputs;
    std::vector<Ort::Value> values;  // over the buffers
    Ort::IoBinding binding;
};

Extraction::Extraction(std::shared_ptr<const Extractor> extractor)
    : extractor_(std::move(extractor)), buffers_(std::make_unique<Buffers>(*extractor_)) {
    for (size_t i = 0; i + 1 < extractor_->names_.size(); ++i)
        levels_.push_back({buffers_->outputs[i].data(), extractor_->storage_[i]});
    embedding_.resize(static_cast<size_t>(extractor_->shapes_.back()[1]));
}

Extraction::~Extraction() = default;

uint8_t* Extraction::image() { return buffers_->image.data(); }

void Extraction::run() {
    try {
        buffers_->session->session.Run(buffers_->options, buffers_->binding);
    } catch (const Ort::Exception& error) {
        refuse(extractor_->path_, "the graph to run", error.what());
    }
    const uint8_t* bytes = buffers_->outputs.back().data();
    if (extractor_->storage_.back() == Storage::float16) {
        std::transform(reinterpret_cast<const uint16_t*>(bytes),
                       reinterpret_cast<const uint16_t*>(bytes) + embedding_.size(), embedding_.begin(), half_to_float);
    } else {
        std::copy_n(reinterpret_cast<const float*>(bytes), embedding_.size(), embedding_.begin());
    }
}

}  // namespace spadeline
