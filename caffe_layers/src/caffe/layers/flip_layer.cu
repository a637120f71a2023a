#include <vector>

#include "caffe/layers/flip_layer.hpp"
#include "caffe/util/device_alternate.hpp"

namespace caffe {

// A thread a number of the result. Neighbouring threads read neighbouring numbers of a row too, in falling order.
template <typename Dtype>
__global__ void FlipKernel(const int nthreads, const int height, const int width, const bool flip_height,
    const bool flip_width, const Dtype* from, Dtype* to) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int w = index % width;
    const int row = index / width;
    const int h = row % height;
    const int from_row = flip_height ? row + height - 1 - 2 * h : row;
    to[index] = from[from_row * width + (flip_width ? width - 1 - w : w)];
  }
}

template <typename Dtype>
void FlipLayer<Dtype>::FlipGPU(const Dtype* from, Dtype* to) const {
  const int count = planes_ * height_ * width_;
  // NOLINT_NEXT_LINE(whitespace/operators)
  FlipKernel<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, height_, width_, flip_height_,
      flip_width_, from, to);
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void FlipLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  FlipGPU(bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
}

template <typename Dtype>
void FlipLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[0]) {
    FlipGPU(top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(FlipLayer);

}  // namespace caffe
