#include <vector>

#include "caffe/layers/label_specific_margin_layer.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A thread a sample.
template <typename Dtype>
__global__ void AngularMarginForward(const int nthreads, const int classes, const AngularMargin<Dtype> margin,
    const Dtype* label, Dtype* y, Dtype* slope) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    if (label[i] < 0) {
      continue;
    }
    Dtype* score = y + static_cast<size_t>(i) * classes + static_cast<size_t>(label[i]);
    CosineWithMargin(margin, score, slope + i);
  }
}

template <typename Dtype>
__global__ void AngularMarginBackward(const int nthreads, const int classes, const Dtype* label, const Dtype* slope,
    Dtype* dx) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    if (label[i] < 0) {
      continue;
    }
    dx[static_cast<size_t>(i) * classes + static_cast<size_t>(label[i])] *= slope[i];
  }
}

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const AngularMargin<Dtype> margin(Prepare(bottom, top), exact_gradient_);
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
  if (!acts_) {
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  AngularMarginForward<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, margin,
      bottom[1]->gpu_data(), top[0]->mutable_gpu_data(), label_slope_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
  if (!acts_ || this->layer_param_.label_specific_margin_param().pass_bp()) {
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  AngularMarginBackward<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, bottom[1]->gpu_data(),
      label_slope_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificMarginLayer);

}  // namespace caffe
