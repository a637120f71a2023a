#include <vector>

#include "caffe/layers/ring_loss_layer.hpp"
#include "caffe/util/block_reduce.cuh"

namespace caffe {

// A block a sample.
template <typename Dtype>
__global__ void RingLengths(const int rows, const int size, const Dtype* f, Dtype* lengths) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    Dtype sum = 0;
    for (int k = threadIdx.x; k < size; k += blockDim.x) {
      const Dtype value = f[static_cast<size_t>(i) * size + k];
      sum += value * value;
    }
    sum = BlockSum(sum);
    if (threadIdx.x == 0) {
      lengths[i] = sqrt(sum);
    }
  }
}

template <typename Dtype>
__global__ void RingGradient(const int nthreads, const int size, const Dtype rate, const Dtype radius, const Dtype* f,
    const Dtype* lengths, Dtype* df) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const Dtype length = lengths[index / size];
    df[index] = length == 0 ? Dtype(0) : rate * (length - radius) / length * f[index];
  }
}

template <typename Dtype>
void RingLossLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  // NOLINT_NEXT_LINE(whitespace/operators)
  RingLengths<Dtype><<<RowBlocks(N_), RowThreads(K_)>>>(N_, K_, bottom[0]->gpu_data(), lengths_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  // N numbers: the host sums them.
  const Dtype* lengths = lengths_.cpu_data();
  double sum = 0, loss = 0;
  for (int i = 0; i < N_; ++i) {
    sum += lengths[i];
  }
  radius_ = Radius(sum / N_);
  for (int i = 0; i < N_; ++i) {
    loss += (lengths[i] - radius_) * (lengths[i] - radius_);
  }
  top[0]->mutable_cpu_data()[0] = loss / (2 * N_);
}

template <typename Dtype>
void RingLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype rate = top[0]->cpu_diff()[0] / N_;
  if (this->param_propagate_down_[0]) {
    Dtype beyond = 0;
    for (int i = 0; i < N_; ++i) {
      beyond += lengths_.cpu_data()[i] - radius_;
    }
    this->blobs_[0]->mutable_cpu_diff()[0] -= rate * beyond;
  }
  if (propagate_down[0]) {
    const int count = bottom[0]->count();
    // NOLINT_NEXT_LINE(whitespace/operators)
    RingGradient<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, K_, rate, radius_,
        bottom[0]->gpu_data(), lengths_.gpu_data(), bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(RingLossLayer);

}  // namespace caffe
