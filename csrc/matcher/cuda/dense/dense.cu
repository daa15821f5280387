#include "matcher/cuda/dense/dense.hpp"

#include "matcher/cuda/dense/bilinear.cuh"
#include "matcher/cuda/dense/dense.cuh"
#include "matcher/cuda/dense/filter.cuh"

namespace spadeline::cuda {

cudaError_t filter_gallery(const DeviceTask& task, const DensePlan& plan, int64_t first, int64_t count,
                           cudaStream_t stream) {
    if (task.bilinear) return launch_upsample_gallery(task, plan, first, count, stream);
    return launch_filter_gallery(task, plan, first, count, stream);
}

cudaError_t filter_query(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream) {
    if (task.bilinear) return launch_upsample_query(task, plan, stream);
    return launch_filter_query(task, plan, stream);
}

cudaError_t match_guarded(const DeviceTask& task, const DensePlan& plan, cudaStream_t stream) {
    return launch_dense(task, plan, task.guarded, task.guarded_count, stream);
}

}  // namespace spadeline::cuda
