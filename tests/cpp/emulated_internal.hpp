// Functions that the emulation's own files share.
#pragma once

#include "emulated_cuda.hpp"

namespace emulated {

// Runs all blocks of a kernel.
void run(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& thread);

// Every call of the runtime starts with this: returns an error if the device is missing or lost.
cudaError_t begin();
// And ends with this: keeps an error for cudaGetLastError.
cudaError_t done(cudaError_t error);

int current_device();                           // the calling thread's device
int allowed_shared_memory(const void* kernel);  // bytes that the kernel may be launched with

// Does work in a stream: at once, or when its turn comes, or, while a graph is captured, whenever the graph runs.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
bool capturing();              // whether any stream captures: then calls that wait or allocate are refused
void finish_all();             // waits for all streams
void count_handles(int more);  // so many were made; destroyed if negative

// While one exists, device memory may be touched.
class Access {
 public:
    Access();
    ~Access();
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;
};

}  // namespace emulated
