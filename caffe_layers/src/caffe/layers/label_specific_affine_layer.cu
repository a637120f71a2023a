#include <vector>

#include "caffe/layers/label_specific_affine_layer.hpp"
#include "caffe/util/affine_score.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

// A thread a sample.
template <typename Dtype>
__global__ void AffineAtLabels(const int nthreads, const int classes, const Dtype scale, const Dtype bias,
    const Dtype power, const Dtype* label, Dtype* y, Dtype* slope) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    if (label[i] >= 0) {
      AffineScore(scale, bias, power, y + static_cast<size_t>(i) * classes + static_cast<size_t>(label[i]), slope + i);
    }
  }
}

template <typename Dtype>
__global__ void AffineGradientAtLabels(const int nthreads, const int classes, const Dtype* label, const Dtype* slope,
    Dtype* dx) {
  CUDA_KERNEL_LOOP(i, nthreads) {
    if (label[i] >= 0) {
      dx[static_cast<size_t>(i) * classes + static_cast<size_t>(label[i])] *= slope[i];
    }
  }
}

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
  NextNumbers(top);
  if (this->phase_ != TRAIN) {
    return;
  }
  CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  const Dtype* numbers = this->blobs_[0]->cpu_data();
  // NOLINT_NEXT_LINE(whitespace/operators)
  AffineAtLabels<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, numbers[0], numbers[1], numbers[2],
      bottom[1]->gpu_data(), top[0]->mutable_gpu_data(), label_slope_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
  if (this->phase_ != TRAIN || this->layer_param_.label_specific_affine_param().original_bp()) {
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  AffineGradientAtLabels<Dtype><<<CAFFE_GET_BLOCKS(N_), CAFFE_CUDA_NUM_THREADS>>>(N_, C_, bottom[1]->gpu_data(),
      label_slope_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificAffineLayer);

}  // namespace caffe
