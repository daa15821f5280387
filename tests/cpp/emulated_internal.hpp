// What the emulation's own files share.
#pragma once

#include "emulated_cuda.hpp"

namespace emulated {

// Runs all blocks of a kernel.
void run(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& thread);

// What a call starts with: an error if the device is missing or lost.
cudaError_t begin();
// What it ends with: keeps an error for cudaGetLastError.
cudaError_t done(cudaError_t error);

int current_device();                           // the calling thread's
int allowed_shared_memory(const void* kernel);  // bytes that it may be launched with

// Does work in a stream: now, or when its turn comes, or whenever the graph runs that is being captured.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
bool capturing();              // whether any stream captures: what waits or allocates is refused then
void finish_all();             // waits for all streams
void count_handles(int more);  // made, or destroyed if negative

// While one exists, device memory may be touched.
class Access {
 public:
    Access();
    ~Access();
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;
};

}  // namespace emulated
