// Counts memory allocations of the whole process, ONNX Runtime's included.
#pragma once

#include <cstdint>

struct Allocations {
    int64_t all, by_library;  // by_library: those that libspadeline.so itself asked for
};

void start_counting();
Allocations stop_counting();
