#include <vector>

#include "caffe/layers/label_specific_add_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A thread a sample and position.
template <typename Dtype>
__global__ void AddAtLabels(const int nthreads, const int classes, const int positions, const Dtype bias,
    const Dtype* label, Dtype* y) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / positions;
    if (label[i] < 0) {
      continue;
    }
    const size_t row = static_cast<size_t>(i) * classes + static_cast<size_t>(label[i]);
    const size_t at = row * positions + index % positions;
    if (y[at] > -bias) {
      y[at] += bias;
    }
  }
}

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const bool acts = Prepare(bottom, top);
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
  if (!acts) {
    return;
  }
  const int count = N_ * positions_;
  // NOLINT_NEXT_LINE(whitespace/operators)
  AddAtLabels<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, positions_, bias_,
      bottom[1]->gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (propagate_down[0] && top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificAddLayer);

}  // namespace caffe
