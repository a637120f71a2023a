#include <vector>

#include "caffe/layers/label_specific_rescale_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
__global__ void RescaleForward(const int nthreads, const int classes, const bool for_ip, const bool bias_fix,
    const Dtype positive_weight, const Dtype negative_weight, const Dtype* x, const Dtype* label, Dtype* y,
    Dtype* factor) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const Dtype score = x[index];
    const int own = ClassOf(label[i]);
    if (own < 0) {
      y[index] = score;
    } else if (index % classes == own) {
      const bool alone = for_ip && !(score > 0);
      factor[i] = alone ? Dtype(1) : positive_weight;
      y[index] = score * factor[i] + (bias_fix && !alone ? 1 - positive_weight : Dtype(0));
    } else {
      y[index] = score * negative_weight;
    }
  }
}

template <typename Dtype>
__global__ void RescaleBackward(const int nthreads, const int classes, const Dtype negative_weight, const Dtype* g,
    const Dtype* label, const Dtype* factor, Dtype* dx) {
  CUDA_KERNEL_LOOP(index, nthreads) {
    const int i = index / classes;
    const int own = ClassOf(label[i]);
    dx[index] = own < 0 ? g[index] : g[index] * (index % classes == own ? factor[i] : negative_weight);
  }
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  Prepare(bottom, top);
  const int count = top[0]->count();
  if (!acts_) {
    if (top[0] != bottom[0]) {
      caffe_copy(count, bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
    }
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  RescaleForward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, for_ip_, bias_fix_,
      positive_weight_, negative_weight_, bottom[0]->gpu_data(), bottom[1]->gpu_data(), top[0]->mutable_gpu_data(),
      label_factor_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const int count = top[0]->count();
  if (!acts_ || !this->layer_param_.label_specific_rescale_param().do_backward()) {
    if (top[0] != bottom[0]) {
      caffe_copy(count, top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    }
    return;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  RescaleBackward<Dtype><<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count, C_, negative_weight_,
      top[0]->gpu_diff(), bottom[1]->gpu_data(), label_factor_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificRescaleLayer);

}  // namespace caffe
