#include <vector>

#include "caffe/layers/axpy_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
__global__ void AxpyForward(const int nthreads, const int positions, const Dtype* a, const Dtype* x, const Dtype* b,
    Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    y[index] = a[index / positions] * x[index] + b[index];
  }
}

// A block a channel of a sample.
template <typename Dtype>
__global__ void AxpyScaleGradient(const int rows, const int positions, const Dtype* g, const Dtype* x, Dtype* da) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * positions;
    Dtype sum = 0;
    for (int p = threadIdx.x; p < positions; p += blockDim.x) {
      sum += g[at + p] * x[at + p];
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) {
      da[i] = sum;
    }
  }
}

template <typename Dtype>
__global__ void AxpyGradient(const int nthreads, const int positions, const Dtype* a, const Dtype* g, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    dx[index] = a[index / positions] * g[index];
  }
}

template <typename Dtype>
void AxpyLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = top[0]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  AxpyForward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, positions_, bottom[0]->gpu_data(),
      bottom[1]->gpu_data(), bottom[2]->gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void AxpyLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const int count = top[0]->count();
  const Dtype* g = top[0]->gpu_diff();
  if (propagate_down[0]) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    AxpyScaleGradient<Dtype><<<RowBlocks(rows_), RowThreads(positions_)>>>(rows_, positions_, g,
        bottom[1]->gpu_data(), bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[1]) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    AxpyGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, positions_,
        bottom[0]->gpu_data(), g, bottom[1]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[2] && top[0] != bottom[2]) {
    caffe_copy(count, g, bottom[2]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(AxpyLayer);

}  // namespace caffe
