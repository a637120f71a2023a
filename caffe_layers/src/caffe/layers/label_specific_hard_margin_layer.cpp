#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/label_specific_hard_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  CHECK_GE(C_, 2) << "Layer " << name << ": expected scores of 2 classes or more, got " << bottom[0]->shape_string();
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 1));
  }
  top[0]->ReshapeLike(*bottom[0]);
  targets_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Report(int labelled, const vector<Blob<Dtype>*>& top) {
  const Dtype rest = Dtype(1) - this->layer_param_.label_specific_hard_margin_param().positive_weight();
  double sum = 0;
  for (int i = 0; i < N_ && labelled > 0; ++i) {
    const Dtype own = others_.cpu_data()[OWN_SCORE * N_ + i];
    const Dtype mean = others_.cpu_data()[SUM_OF_OTHERS * N_ + i] / (C_ - 1);
    const Dtype margin = rest * (mean - own);
    targets_.mutable_cpu_data()[i] = own + margin;
    sum += margin;  // 0 without a class
  }
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = labelled > 0 ? sum / labelled * (180 / 3.14159265358979323846) : 0;
  }
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
  if (this->phase_ != TRAIN) {
    Report(0, top);
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  OtherScoresCPU<Dtype>(*bottom[0], *bottom[1], NULL, Dtype(0), &others_);
  Report(labelled, top);
  PutAtLabelsCPU<Dtype>(*bottom[1], targets_, top[0]);
}

template <typename Dtype>
void LabelSpecificHardMarginLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* g = top[0]->cpu_diff();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  if (g != dx) {
    caffe_copy(top[0]->count(), g, dx);
  }
  const LabelSpecificHardMarginParameter& param = this->layer_param_.label_specific_hard_margin_param();
  const Dtype* label = bottom[1]->cpu_data();
  for (int i = 0; i < N_ && this->phase_ == TRAIN && param.exact_gradient(); ++i) {
    if (label[i] < 0) {
      continue;
    }
    Dtype* row = dx + static_cast<size_t>(i) * C_;
    const int own = static_cast<int>(label[i]);
    const Dtype slope = row[own];
    caffe_add_scalar(C_, (Dtype(1) - param.positive_weight()) / (C_ - 1) * slope, row);
    row[own] = param.positive_weight() * slope;
  }
}

#ifdef CPU_ONLY
STUB_GPU(LabelSpecificHardMarginLayer);
#endif

INSTANTIATE_CLASS(LabelSpecificHardMarginLayer);
REGISTER_LAYER_CLASS(LabelSpecificHardMargin);

}  // namespace caffe
