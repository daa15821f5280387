// The emulated device's properties, its errors, and its float16.
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

#include "emulated_internal.hpp"

namespace emulated {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current = 0;

struct Allowed {
    int bytes;  // of dynamic shared memory
    int most;   // that the device had then
};
std::mutex mutex;
std::map<const void*, Allowed> allowed;  // one for each kernel

}  // namespace

Device& device() {
    static Device device;
    return device;
}

cudaError_t begin() {
    Device& device = emulated::device();
    if (device.missing) return done(device.missing);
    if (device.calls_before_loss == 0) return done(cudaErrorLaunchFailure);
    if (device.calls_before_loss > 0) --device.calls_before_loss;
    return cudaSuccess;
}

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

int current_device() { return current; }

int allowed_shared_memory(const void* kernel) {
    constexpr int unasked = 48 << 10;
    const std::lock_guard lock(mutex);
    const auto found = allowed.find(kernel);
    return found == allowed.end() ? unasked : found->second.bytes;
}

}  // namespace emulated

using emulated::begin, emulated::done;

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 0;
    if (const cudaError_t error = begin()) return error;
    *count = emulated::device().count;
    return *count ? cudaSuccess : done(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
    if (const cudaError_t error = begin()) return error;
    *device = emulated::current;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (const cudaError_t error = begin()) return error;
    if (device < 0 || device >= emulated::device().count) return done(cudaErrorInvalidDevice);
    emulated::current = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    if (const cudaError_t error = begin()) return error;
    const emulated::Device& device = emulated::device();
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
            *value = 1024;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *value = 48 << 10;
            break;
        case cudaDevAttrWarpSize:
            *value = 32;
            break;
        case cudaDevAttrMultiProcessorCount:
            *value = device.multiprocessors;
            break;
        case cudaDevAttrL2CacheSize:
            *value = 4 << 20;
            break;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            *value = 1536;
            break;
        case cudaDevAttrComputeCapabilityMajor:
            *value = device.major;
            break;
        case cudaDevAttrComputeCapabilityMinor:
            *value = device.minor;
            break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = device.shared_memory_per_multiprocessor;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = device.shared_memory_per_block;
            break;
        case cudaDevAttrReservedSharedMemoryPerBlock:
            *value = 1 << 10;
            break;
        default:
            return done(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

// Unlike CUDA, this refuses to lower it: another thread that raised it may be about to launch.
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
    if (const cudaError_t error = begin()) return error;
    const int most = emulated::device().shared_memory_per_block;
    const std::lock_guard lock(emulated::mutex);
    const auto [at, added] = emulated::allowed.try_emplace(kernel, value, most);
    const bool lowered = !added && at->second.most == most && value < at->second.bytes;
    if (value > most || lowered) return done(cudaErrorInvalidValue);
    at->second = {value, most};
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(emulated::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return emulated::last_error; }

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "cudaSuccess";
        case cudaErrorInvalidValue:
            return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation:
            return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidPitchValue:
            return "cudaErrorInvalidPitchValue";
        case cudaErrorInvalidConfiguration:
            return "cudaErrorInvalidConfiguration";
        case cudaErrorInsufficientDriver:
            return "cudaErrorInsufficientDriver";
        case cudaErrorNoDevice:
            return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice:
            return "cudaErrorInvalidDevice";
        case cudaErrorInvalidResourceHandle:
            return "cudaErrorInvalidResourceHandle";
        case cudaErrorNotReady:
            return "cudaErrorNotReady";
        case cudaErrorLaunchFailure:
            return "cudaErrorLaunchFailure";
        case cudaErrorStreamCaptureUnsupported:
            return "cudaErrorStreamCaptureUnsupported";
    }
    return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInsufficientDriver:
            return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNoDevice:
            return "no CUDA-capable device is detected";
        case cudaErrorLaunchFailure:
            return "unspecified launch failure";
        default:
            return cudaGetErrorName(error);
    }
}

__half __float2half_rn(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const float size = std::fabs(value);
    if (std::isnan(value)) return {0x7fff};
    if (size >= 65520) return {static_cast<uint16_t>(sign | 0x7c00)};
    if (size < 0x1p-14f) return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24f)))};
    const uint32_t magnitude = (bits & 0x7fffffff) - (112u << 23);
    const uint32_t rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13;
    return {static_cast<uint16_t>(sign | rounded)};
}
