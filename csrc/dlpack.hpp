// The part of a DLPack capsule that a frame needs. The layout is that of DLPack's version 0, which every exporter
// offers: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace spadeline::dlpack {

struct Device {
    int32_t kind;  // 2: CUDA
    int32_t id;
};

struct DataType {
    uint8_t code;  // 1: unsigned integers
    uint8_t bits;
    uint16_t lanes;
};

// A capsule named "dltensor" points to a struct that begins like this. What follows belongs to its owner.
struct Tensor {
    void* data;
    Device device;
    int32_t dimensions;
    DataType type;
    int64_t* shape;
    int64_t* strides;  // in elements; null: contiguous
    uint64_t byte_offset;
};

}  // namespace spadeline::dlpack
