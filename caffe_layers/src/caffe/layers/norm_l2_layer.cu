#include <vector>

#include "caffe/layers/norm_l2_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A block a sample; y may be x.
template <typename Dtype>
__global__ void NormL2Forward(const int rows, const int size, const Dtype* x, Dtype* lengths, Dtype* y) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * size;
    Dtype sum = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      sum += x[at + k] * x[at + k];
    }
    const Dtype length = sqrt(BlockSum(sum) + Dtype(1e-7));
    if (threadIdx.x == 0) {
      lengths[i] = length;
    }
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      y[at + k] = x[at + k] / length;
    }
  }
}

// A block a sample; dx may be g.
template <typename Dtype>
__global__ void NormL2Backward(const int rows, const int size, const Dtype* y, const Dtype* g, const Dtype* lengths,
    Dtype* dx) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * size;
    Dtype along = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      along += y[at + k] * g[at + k];
    }
    along = BlockSum(along);
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      dx[at + k] = (g[at + k] - y[at + k] * along) / lengths[i];
    }
  }
}

template <typename Dtype>
void NormL2Layer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  // NOLINT_NEXT_LINE(whitespace/operators)
  NormL2Forward<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_, bottom[0]->gpu_data(), lengths_.mutable_gpu_data(),
      top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void NormL2Layer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  NormL2Backward<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_, top[0]->gpu_data(), top[0]->gpu_diff(),
      lengths_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(NormL2Layer);

}  // namespace caffe
