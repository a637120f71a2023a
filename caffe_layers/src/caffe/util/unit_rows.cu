#include "caffe/util/block_reduce.cuh"
#include "caffe/util/device_alternate.hpp"
#include "caffe/util/unit_rows.hpp"

namespace caffe {

// A block a row.
template <typename Dtype>
__global__ void UnitRowsKernel(const int rows, const int size, const Dtype eps, const Dtype* x, Dtype* y) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t row = static_cast<size_t>(i) * size;
    Dtype sum = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      sum += x[row + k] * x[row + k];
    }
    const Dtype scale = Dtype(1) / sqrt(BlockSum(sum) + eps);
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      y[row + k] = x[row + k] * scale;
    }
  }
}

template <typename Dtype>
void UnitRowsGPU(int rows, int size, Dtype eps, const Dtype* x, Dtype* y) {
  // NOLINT_NEXT_LINE(whitespace/operators)
  UnitRowsKernel<Dtype><<<RowBlocks(rows), RowThreads(size)>>>(rows, size, eps, x, y);
  CUDA_POST_KERNEL_CHECK;
}

template void UnitRowsGPU<float>(int, int, float, const float*, float*);
template void UnitRowsGPU<double>(int, int, double, const double*, double*);

}  // namespace caffe
