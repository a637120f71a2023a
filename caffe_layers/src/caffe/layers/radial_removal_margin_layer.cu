#include <vector>

#include "caffe/layers/radial_removal_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  }
  if (this->phase_ != TRAIN) {
    Report(0, top);
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  OtherScoresGPU<Dtype>(*bottom[0], *bottom[1], scales_, this->layer_param_.radial_removal_margin_param().scale(),
      &others_);
  Report(labelled, top);
  PutAtLabelsGPU<Dtype>(*bottom[1], targets_, top[0]);
}

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (bottom.size() > 2 && propagate_down[2]) {
    caffe_gpu_set(N_, Dtype(0), bottom[2]->mutable_gpu_diff());
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(RadialRemovalMarginLayer);

}  // namespace caffe
