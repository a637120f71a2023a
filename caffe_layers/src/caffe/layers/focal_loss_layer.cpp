#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/focal_loss_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/focal_weight.hpp"

namespace caffe {

template <typename Dtype>
void FocalLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const bool weighted = this->layer_param_.loss_weight_size() > 0;
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  if (!weighted && top.size() > 1) {
    this->layer_param_.add_loss_weight(0);
  }
  const FocalLossParameter& param = this->layer_param_.focal_loss_param();
  const LossParameter& loss = this->layer_param_.loss_param();
  const string& name = this->layer_param_.name();
  CHECK(param.type() != FocalLossParameter_Type_LINEAR) << "Layer " << name << ": type LINEAR is not supported (the "
      << "fork has no code for it)";
  CHECK_GE(param.gamma(), 0) << "Layer " << name << ": expected a gamma of 0 or more";
  gamma_ = param.gamma();
  added_ = param.type() == FocalLossParameter_Type_ONEADDP;
  ignore_ = loss.has_ignore_label() ? loss.ignore_label() : -1;
  normalization_ = loss.normalization();
  if (!loss.has_normalization() && loss.has_normalize()) {
    normalization_ = loss.normalize() ? LossParameter_NormalizationMode_VALID
        : LossParameter_NormalizationMode_BATCH_SIZE;
  }
  LayerParameter softmax_param(this->layer_param_);
  softmax_param.set_type("Softmax");
  softmax_param.clear_loss_weight();
  softmax_ = LayerRegistry<Dtype>::CreateLayer(softmax_param);
  softmax_bottom_.assign(1, bottom[0]);
  softmax_top_.assign(1, &p_);
  softmax_->SetUp(softmax_bottom_, softmax_top_);
}

template <typename Dtype>
void FocalLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  softmax_bottom_[0] = bottom[0];
  softmax_->Reshape(softmax_bottom_, softmax_top_);
  const int axis = bottom[0]->CanonicalAxisIndex(this->layer_param_.softmax_param().axis());
  outer_ = bottom[0]->count(0, axis);
  classes_ = bottom[0]->shape(axis);
  inner_ = bottom[0]->count(axis + 1);
  CHECK_EQ(outer_ * inner_, bottom[1]->count()) << "Layer " << this->layer_param_.name() << ": expected a label for "
      << "each of " << outer_ * inner_ << " positions of bottom 0, " << bottom[0]->shape_string() << ", got "
      << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
  if (top.size() > 1) {
    top[1]->ReshapeLike(*bottom[0]);
  }
  vector<int> terms_shape(2, inner_);
  terms_shape[0] = outer_;
  terms_.Reshape(terms_shape);
}

template <typename Dtype>
int FocalLossLayer<Dtype>::CountLabels(const Blob<Dtype>& labels) const {
  const Dtype* label = labels.cpu_data();
  int labelled = 0;
  for (int i = 0; i < labels.count(); ++i) {
    const int y = ClassOf(label[i]);
    if (y >= 0 && y == ignore_) {
      continue;
    }
    CHECK(label[i] < classes_) << "Layer " << this->layer_param_.name() << ": label " << label[i] << " of position "
        << i << " is out of range; expected 0 to " << classes_ - 1 << ", or one below 0 that does not count";
    labelled += y >= 0;
  }
  return labelled;
}

template <typename Dtype>
Dtype FocalLossLayer<Dtype>::Normalizer(int labelled) const {
  switch (normalization_) {
  case LossParameter_NormalizationMode_FULL:
    return std::max(1, outer_ * inner_);
  case LossParameter_NormalizationMode_VALID:
    return std::max(1, labelled);
  case LossParameter_NormalizationMode_BATCH_SIZE:
    return std::max(1, outer_);
  case LossParameter_NormalizationMode_NONE:
    return 1;
  default:
    LOG(FATAL) << "Layer " << this->layer_param_.name() << ": this normalization is not known to FocalLoss";
  }
  return 1;
}

template <typename Dtype>
void FocalLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  normalizer_ = Normalizer(CountLabels(*bottom[1]));
  softmax_bottom_[0] = bottom[0];
  softmax_->Forward(softmax_bottom_, softmax_top_);
  const Dtype* label = bottom[1]->cpu_data();
  double sum = 0;
  for (int i = 0; i < outer_ * inner_; ++i) {
    const int y = ClassOf(label[i]);
    if (y < 0 || y == ignore_) {
      continue;
    }
    const Dtype p = p_.cpu_data()[(static_cast<size_t>(i / inner_) * classes_ + y) * inner_ + i % inner_];
    Dtype weight, slope;
    FocalWeight(added_, gamma_, p, &weight, &slope);
    sum -= weight * std::log(p < FLT_MIN ? Dtype(FLT_MIN) : p);
  }
  top[0]->mutable_cpu_data()[0] = sum / normalizer_;
  if (top.size() > 1) {
    top[1]->ShareData(p_);
  }
}

template <typename Dtype>
void FocalLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype rate = top[0]->cpu_diff()[0] / normalizer_;
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < outer_ * inner_; ++i) {
    const size_t at = static_cast<size_t>(i / inner_) * classes_ * inner_ + i % inner_;
    const int y = ClassOf(label[i]);
    const bool counts = y >= 0 && y != ignore_;
    const Dtype factor = counts ? rate * FocalFactor(added_, gamma_, p_.cpu_data()[at + y * inner_]) : Dtype(0);
    for (int c = 0; c < classes_; ++c) {
      const size_t index = at + static_cast<size_t>(c) * inner_;
      dx[index] = counts ? factor * (p_.cpu_data()[index] - (c == y)) : Dtype(0);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(FocalLossLayer);
#endif

INSTANTIATE_CLASS(FocalLossLayer);
REGISTER_LAYER_CLASS(FocalLoss);

}  // namespace caffe
