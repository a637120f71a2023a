#include <vector>

#include "caffe/layers/channel_scale_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
__global__ void ScaleChannels(const int nthreads, const int channels, const int spatial, const Dtype* s,
    const Dtype* x, Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    y[index] = s[index / (channels * spatial) * spatial + index % spatial] * x[index];
  }
}

// Features without positions, (rows, channels): a block a row.
template <typename Dtype>
__global__ void ScaleGradientRows(const int rows, const int channels, const Dtype* g, const Dtype* x, Dtype* ds) {
  for (int n = blockIdx.x; n < rows; n += gridDim.x) {
    const size_t row = static_cast<size_t>(n) * channels;
    Dtype dot = 0;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
      dot += g[row + c] * x[row + c];
    }
    dot = BlockSum(dot);
    if (threadIdx.x == 0) {
      ds[n] = dot;
    }
  }
}

// Feature maps, (num, channels, spatial): a thread a position, so that neighbouring threads read neighbouring numbers.
template <typename Dtype>
__global__ void ScaleGradientPositions(const int positions, const int channels, const int spatial, const Dtype* g,
    const Dtype* x, Dtype* ds) {
  CUDA_KERNEL_LOOP(index, positions) {
    const size_t start = static_cast<size_t>(index / spatial) * channels * spatial + index % spatial;
    Dtype dot = 0;
    for (int c = 0; c < channels; ++c) {
      const size_t i = start + static_cast<size_t>(c) * spatial;
      dot += g[i] * x[i];
    }
    ds[index] = dot;
  }
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::MultiplyGPU(const Dtype* s, const Dtype* x, Dtype* y) const {
  const int count = num_ * channels_ * spatial_;
  // NOLINT_NEXT_LINE(whitespace/operators)
  ScaleChannels<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, channels_, spatial_, s, x, y);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (do_forward_) {
    MultiplyGPU(bottom[1]->gpu_data(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  } else {
    caffe_copy(bottom[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype* g = top[0]->gpu_diff();
  if (propagate_down[0]) {
    if (do_backward_feature_) {
      MultiplyGPU(bottom[1]->gpu_data(), g, bottom[0]->mutable_gpu_diff());
    } else {
      caffe_copy(bottom[0]->count(), g, bottom[0]->mutable_gpu_diff());
    }
  }
  if (!propagate_down[1]) {
    return;
  }
  Dtype* ds = bottom[1]->mutable_gpu_diff();
  if (!do_backward_scale_) {
    caffe_gpu_set(bottom[1]->count(), Dtype(0), ds);
    return;
  }
  const Dtype* x = bottom[0]->gpu_data();
  if (spatial_ == 1) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    ScaleGradientRows<Dtype><<<RowBlocks(num_), RowThreads(channels_)>>>(num_, channels_, g, x, ds);
  } else {
    const int positions = num_ * spatial_;
    // NOLINT_NEXT_LINE(whitespace/operators)
    ScaleGradientPositions<Dtype><<<CAFFE_GET_BLOCKS(positions), CAFFE_CUDA_NUM_THREADS>>>(positions, channels_,
        spatial_, g, x, ds);
  }
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(ChannelScaleLayer);

}  // namespace caffe
