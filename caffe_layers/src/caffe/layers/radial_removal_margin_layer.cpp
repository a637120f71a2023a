#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/radial_removal_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
}

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  CHECK_GE(C_, 2) << "Layer " << name << ": expected scores of 2 classes or more, got " << bottom[0]->shape_string();
  scales_ = bottom.size() > 2 ? bottom[2] : NULL;
  if (bottom.size() > 2) {
    CHECK_EQ(bottom[2]->count(), N_) << "Layer " << name << ": expected " << N_ << " scales as bottom 2, got "
        << bottom[2]->shape_string();
  }
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 4));
  }
  top[0]->ReshapeLike(*bottom[0]);
  targets_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Report(int labelled, const vector<Blob<Dtype>*>& top) {
  double own = 0, largest = 0, margin = 0, soft = 0;
  for (int i = 0; i < N_ && labelled > 0; ++i) {
    const Dtype* of = others_.cpu_data() + i;
    const Dtype exponentials = of[EXPONENTIALS * N_];
    if (!(exponentials > 0)) {  // without a class; NaN too, which x has already
      targets_.mutable_cpu_data()[i] = exponentials;
      continue;
    }
    const Dtype scale = scales_ ? scales_->cpu_data()[i] : this->layer_param_.radial_removal_margin_param().scale();
    const Dtype target = of[WEIGHTED_SCORES * N_] / exponentials;
    targets_.mutable_cpu_data()[i] = target;
    own += of[OWN_SCORE * N_];
    largest += of[LARGEST_OTHER * N_];
    margin += of[OWN_SCORE * N_] - target;
    soft += std::log(exponentials) / scale + of[LARGEST_OTHER * N_];
  }
  if (top.size() > 1) {
    Dtype* report = top[1]->mutable_cpu_data();
    const int divisor = std::max(labelled, 1);
    report[0] = own / divisor;
    report[1] = largest / divisor;
    report[2] = margin / divisor;
    report[3] = soft / divisor;
  }
}

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
  if (this->phase_ != TRAIN) {
    Report(0, top);
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  OtherScoresCPU<Dtype>(*bottom[0], *bottom[1], scales_, this->layer_param_.radial_removal_margin_param().scale(),
      &others_);
  Report(labelled, top);
  PutAtLabelsCPU<Dtype>(*bottom[1], targets_, top[0]);
}

template <typename Dtype>
void RadialRemovalMarginLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (bottom.size() > 2 && propagate_down[2]) {
    caffe_set(N_, Dtype(0), bottom[2]->mutable_cpu_diff());
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(RadialRemovalMarginLayer);
#endif

INSTANTIATE_CLASS(RadialRemovalMarginLayer);
REGISTER_LAYER_CLASS(RadialRemovalMargin);

}  // namespace caffe
