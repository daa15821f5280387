#include "matcher/cuda/gallery.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "matcher/cpu/kernels.hpp"
#include "matcher/cuda/dense.hpp"
#include "matcher/encoder.hpp"
#include "matcher/taps.hpp"

namespace spadeline::cuda {
namespace {

constexpr char kPurpose[] = "the gallery";
// Left free for the extractor, which is opened later: some 200 MB of weights, and workspaces that may be several times
// as large.
constexpr int64_t kForOthers = int64_t{3} << 29;

// The gallery's part of the free memory: at least half, at most nine tenths, since queries need workspaces, too.
int64_t share_of(int64_t free) { return std::max(free / 2, std::min(free / 10 * 9, free - kForOthers)); }

DeviceLimits limits_of_device() {
    return {device_attribute(cudaDevAttrMultiProcessorCount, kPurpose),
            device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, kPurpose)};
}

void copy(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync",
          kPurpose);
}

}  // namespace

// Small arrays that every query reads, gathered on the host and copied together.
class DeviceGallery::Constants {
 public:
    // `field` is set to the array's place on the device when the arrays are copied.
    template <class T>
    void add(const T* values, int64_t count, const T*& field) {
        const auto at = static_cast<size_t>(round_up(std::ssize(bytes_), kAlignment));
        bytes_.resize(at + static_cast<size_t>(count) * sizeof(T));
        std::memcpy(bytes_.data() + at, values, static_cast<size_t>(count) * sizeof(T));
        places_.push_back([&field, at](std::byte* base) { field = reinterpret_cast<const T*>(base + at); });
    }

    DeviceMemory copy(cudaStream_t stream) const {
        DeviceMemory memory(static_cast<int64_t>(bytes_.size()), kPurpose);
        cuda::copy(memory.data(), bytes_.data(), static_cast<int64_t>(bytes_.size()), stream);
        for (const auto& place : places_) place(memory.data());
        return memory;
    }

 private:
    static constexpr int64_t kAlignment = 256;
    std::vector<std::byte> bytes_;
    std::vector<std::function<void(std::byte*)>> places_;
};

DeviceGallery::DeviceGallery(PyramidShape shape, const Gallery& gallery, std::optional<int64_t> limit_bytes,
                             Upsampling upsampling)
    : shape_(std::move(shape)), gallery_(gallery), slots_(0) {
    task_.bilinear = upsampling == Upsampling::bilinear;
    if (shape_.level_count() > kMaxLevels || shape_.positions(0) > INT32_MAX)
        throw std::invalid_argument("levels: expected 1 to " + std::to_string(kMaxLevels) +
                                    " of fewer than 2^31 positions, got " + std::to_string(shape_.level_count()) +
                                    " of " + std::to_string(shape_.positions(0)));
    const Stream stream;
    Constants constants;
    describe(constants);
    describe_filter();
    constants_ = constants.copy(stream);
    image_bytes_ = lay_out(1, nullptr);
    const int64_t free = free_device_memory();
    const int64_t limit = limit_bytes.value_or(share_of(free));
    const int64_t countable = INT32_MAX / shape_.positions(0);  // kernels count the positions of all slots in 32 bits
    const int64_t slots = std::min({limit / image_bytes_, gallery_.images, countable});
    if (slots < 1) throw OutOfDeviceMemory(image_bytes_, std::min(free, limit), "one image of the gallery");
    memory_ = DeviceMemory(lay_out(slots, nullptr), kPurpose);
    lay_out(slots, memory_.data());
    slots_ = SlotTable(slots);
    if (slots == gallery_.images) {
        for (const Array& array : arrays_) copy(array.device, array.host, array.bytes * slots, stream);
        check(filter_gallery(task_, plan_, 0, slots, stream), "filter_gallery", kPurpose);
    } else {
        for (PinnedMemory& staging : staging_) staging = PinnedMemory(image_bytes_, kPurpose);
    }
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", kPurpose);
}

// Describes what no query changes, except where images lie.
void DeviceGallery::describe(Constants& constants) {
    task_.level_count = static_cast<int32_t>(shape_.level_count());
    task_.storage = gallery_.storage;
    task_.cells = shape_.cells();
    task_.cell_columns = shape_.cell_columns();
    task_.panels = ceil_div(shape_.cells(), kPanel);
    for (int64_t l = 0; l < shape_.level_count(); ++l) {
        const LevelShape& level_shape = shape_.levels()[l];
        DeviceLevel& level = task_.level[l];
        level.channels = static_cast<int32_t>(level_shape.channels);
        level.block = static_cast<int32_t>(shape_.block(l));
        level.positions = shape_.positions(l);
        level.height = level_shape.height;
        level.width = level_shape.width;
        level.shift = level_shape.shift;
        level.weight = gallery_.weights[l];
        constants.add(shape_.raster(l).data(), level.positions, level.raster);
        arrays_.push_back({static_cast<const std::byte*>(gallery_.levels[l]), nullptr,
                           level.positions * level.channels * bytes_of(task_.storage)});
        if (task_.bilinear && l > 0) constants.add(taps_of(shape_, l).data(), shape_.positions(0), level.taps);
        if (!pruned()) continue;
        const GalleryCodes& codes = gallery_.codes[l];
        describe_codes(l, codes.directions, codes.basis, codes.projected, level.projected, constants);
        describe_codes(l, 0, codes.basis, codes.rotated, level.rotated, constants);
    }
}

// Describes the dense path's rows and chooses their scales. Rows that hold all levels, weights included, have one
// scale.
void DeviceGallery::describe_filter() {
    const std::vector<LevelShape> levels = filter_levels(shape_.levels(), task_.bilinear);
    plan_ = plan_dense(levels, limits_of_device());
    double weighted = 0, channels = 0;
    for (size_t l = 0; l < shape_.levels().size(); ++l) {
        DeviceLevel& level = task_.level[l];
        if (l < levels.size()) level.filter_channels = static_cast<int32_t>(filter_channels(levels[l].channels));
        const int64_t rows = std::min<int64_t>(gallery_.images, 8) * level.positions;
        const float* mean = pruned() ? gallery_.codes[l].basis : nullptr;
        const double square = mean_square(gallery_.levels[l], task_.storage, rows, level.channels, mean);
        plan_.scale[l] = filter_scale(square);
        weighted += level.weight * level.channels * square;
        channels += level.channels;
    }
    if (task_.bilinear) plan_.scale[0] = filter_scale(weighted / channels);
}

void DeviceGallery::describe_codes(int64_t l, int64_t directions, const float* basis, const uint8_t* records,
                                   DeviceCodes& codes, Constants& constants) {
    if (!records) return;
    const DeviceLevel& level = task_.level[l];
    const LevelEncoder encoder(kernels_named("scalar"), level.channels, directions, basis);
    const Codebook& book = encoder.book();
    const int64_t group = group_size(l + 1 == shape_.level_count());
    codes.book.dims = static_cast<int32_t>(book.dims);
    codes.book.projection_error = book.projection_error;
    codes.group = static_cast<int32_t>(group);
    codes.groups = ceil_div(level.positions, group);
    codes.record = encoder.record(group);
    constants.add(basis, level.channels, codes.book.mean);
    if (directions > 0) {
        constants.add(basis + level.channels, directions * level.channels, codes.book.projection);
    } else {
        constants.add(book.signs, book.dims, codes.book.signs);
    }
    arrays_.push_back({reinterpret_cast<const std::byte*>(records), nullptr, codes.groups * codes.record});
}

// Places all arrays one behind the other, in the order of `arrays_`, and returns the bytes that they take.
int64_t DeviceGallery::lay_out(int64_t slots, std::byte* base) {
    Layout layout(base);
    auto array = arrays_.begin();
    for (int l = 0; l < task_.level_count; ++l) {
        DeviceLevel& level = task_.level[l];
        const auto next = [&] { return array->device = layout.take<std::byte>(slots * array->bytes); };
        level.gallery = next(), ++array;
        for (DeviceCodes* codes : {&level.projected, &level.rotated})
            if (codes->book.dims) codes->gallery = reinterpret_cast<const uint8_t*>(next()), ++array;
        level.gallery_filter = layout.take<__half>(slots * level.positions * level.filter_channels);
        level.gallery_filter_norms = layout.take<float>(slots * level.positions);
    }
    return layout.bytes();
}

// Copies by way of pinned memory, with room for two images: one is gathered while the other one is copied.
void DeviceGallery::upload(std::span<const Upload> uploads, cudaStream_t stream) {
    for (size_t i = 0; i < uploads.size(); ++i) {
        const auto& [image, slot] = uploads[i];
        check(cudaEventSynchronize(staged_[i % 2]), "cudaEventSynchronize", kPurpose);
        std::byte* staging = staging_[i % 2].data();
        for (const Array& array : arrays_) {
            std::memcpy(staging, array.host + image * array.bytes, static_cast<size_t>(array.bytes));
            copy(array.device + slot * array.bytes, staging, array.bytes, stream);
            staging += array.bytes;
        }
        check(cudaEventRecord(staged_[i % 2], stream), "cudaEventRecord", kPurpose);
        check(filter_gallery(task_, plan_, slot, 1, stream), "filter_gallery", kPurpose);
    }
}

DeviceGallery::Lease::Lease(DeviceGallery& gallery, std::span<const int64_t> images, std::span<int32_t> slots,
                            cudaStream_t stream)
    : gallery_(gallery), stream_(stream) {
    if (gallery.all_fit()) {
        std::copy(images.begin(), images.end(), slots.begin());
        return;
    }
    turn_ = std::unique_lock(gallery.turn_);
    gallery.uploads_.clear();
    gallery.slots_.place(images, slots, gallery.uploads_);
    try {
        check(cudaStreamWaitEvent(stream, gallery.last_use_), "cudaStreamWaitEvent", kPurpose);
        gallery.upload(gallery.uploads_, stream);
    } catch (...) {
        gallery.slots_.forget();
        cudaEventRecord(gallery.last_use_, stream);  // for the copies before the failure
        throw;
    }
}

DeviceGallery::Lease::~Lease() {
    if (turn_) cudaEventRecord(gallery_.last_use_, stream_);
}

}  // namespace spadeline::cuda
