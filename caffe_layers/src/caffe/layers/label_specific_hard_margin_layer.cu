#include <vector>

#include "caffe/layers/label_specific_hard_margin_layer.hpp"
#include "caffe/util/block_reduce.cuh"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

// A block a sample; dx may be g.
template <typename Dtype>
__global__ void HardMarginGradient(const int rows, const int classes, const Dtype weight, const Dtype* label,
    const Dtype* g, Dtype* dx) {
  for (int i = blockIdx.x; i < rows; i += gridDim.x) {
    const size_t at = static_cast<size_t>(i) * classes;
    const int own = ClassOf(label[i]);
    const Dtype slope = own < 0 ? Dtype(0) : g[at + own];
    __syncthreads();  // before it is written
    for (int j = threadIdx.x; j < classes; j += blockDim.x) {
      dx[at + j] = j == own ? weight * slope : g[at + j] + (1 - weight) / (classes - 1) * slope;
    }
  }
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
  if (this->phase_ != TRAIN) {
    Report(0, top);
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  OtherScoresGPU<Dtype>(*bottom[0], *bottom[1], NULL, Dtype(0), &others_);
  Report(labelled, top);
  PutAtLabelsGPU<Dtype>(*bottom[1], targets_, top[0]);
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const LabelSpecificHardMarginParameter& param = this->layer_param_.label_specific_hard_margin_param();
  if (this->phase_ == TRAIN && param.exact_gradient()) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    HardMarginGradient<Dtype><<<RowBlocks(N_), RowThreads(C_)>>>(N_, C_, param.positive_weight(),
        bottom[1]->gpu_data(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  } else if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(LabelSpecificHardMarginLayer);

}  // namespace caffe
