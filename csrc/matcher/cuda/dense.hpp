// The dense path's launchers, whose kernels are compiled in dense.cu and nowhere else.
#pragma once

#include <cstdint>

#include "matcher/cuda/plan.hpp"
#include "matcher/cuda/task.cuh"

namespace spadeline::cuda {

// The filter's rows of images that were copied to slots [first, first + count).
cudaError_t filter_gallery(const DeviceTask& task, const DensePlan& plan, int64_t first, int64_t count,
                           cudaStream_t stream);
// The filter's rows of a query, from its rows of channels.
cudaError_t filter_query(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream);
// Matches the query cells on the list `task.guarded`.
cudaError_t match_guarded(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream);

}  // namespace spadeline::cuda
