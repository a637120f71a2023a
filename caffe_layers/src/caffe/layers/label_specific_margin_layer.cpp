#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/label_specific_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const LabelSpecificMarginParameter& param = this->layer_param_.label_specific_margin_param();
  const string& name = this->layer_param_.name();
  CHECK(param.type() == LabelSpecificMarginParameter_MarginType_HARD) << "Layer " << name << ": type SOFT is not "
      << "supported (NormFace's fork has it on the GPU only)";
  CHECK(!param.auto_tune()) << "Layer " << name << ": auto_tune is not supported (NormFace's fork has the field but "
      << "its CPU code does nothing with it)";
  CHECK(!param.reset_margin()) << "Layer " << name << ": reset_margin is not supported (NormFace's fork has the "
      << "field but its CPU code does nothing with it)";
  acts_ = this->phase_ == TRAIN || param.margin_on_test();
  exact_gradient_ = param.exact_gradient();
  iteration_ = param.iteration();
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    this->blobs_[0].reset(new Blob<Dtype>(vector<int>(1, 1)));
    this->blobs_[0]->mutable_cpu_data()[0] = param.margin_base();
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
  // The margin has no gradient, but weight decay would draw it to 0.
  ParamSpec* spec = this->layer_param_.param_size() ? this->layer_param_.mutable_param(0)
      : this->layer_param_.add_param();
  LOG_IF(WARNING, spec->has_lr_mult() && spec->lr_mult() != 0) << "Layer " << name << ": the margin is not learned; "
      << "its lr_mult is taken for 0";
  spec->set_lr_mult(0);
  spec->set_decay_mult(0);
}

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 1));
  }
  label_slope_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
double LabelSpecificMarginLayer<Dtype>::Prepare(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const LabelSpecificMarginParameter& param = this->layer_param_.label_specific_margin_param();
  double margin;
  if (this->phase_ == TRAIN && param.has_margin_base()) {
    margin = param.margin_base() + Annealed(1, param.gamma(), -param.power(), iteration_) - 1;
    ++iteration_;
  } else {
    margin = this->blobs_[0]->cpu_data()[0];
  }
  if (param.has_margin_max()) {
    margin = std::min<double>(param.margin_max(), margin);
  }
  if (this->phase_ == TRAIN) {
    this->blobs_[0]->mutable_cpu_data()[0] = margin;
  }
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = margin;
  }
  if (acts_) {
    CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  }
  return margin;
}

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const AngularMargin<Dtype> margin(Prepare(bottom, top), exact_gradient_);
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
  if (!acts_) {
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  Dtype* slope = label_slope_.mutable_cpu_data();
  for (int i = 0; i < N_; ++i) {
    if (label[i] < 0) {
      continue;
    }
    Dtype* score = y + static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i]);
    CosineWithMargin(margin, score, slope + i);
  }
}

template <typename Dtype>
void LabelSpecificMarginLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
  if (!acts_ || this->layer_param_.label_specific_margin_param().pass_bp()) {
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* slope = label_slope_.cpu_data();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < N_; ++i) {
    if (label[i] < 0) {
      continue;
    }
    dx[static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i])] *= slope[i];
  }
}

#ifdef CPU_ONLY
STUB_GPU(LabelSpecificMarginLayer);
#endif

INSTANTIATE_CLASS(LabelSpecificMarginLayer);
REGISTER_LAYER_CLASS(LabelSpecificMargin);

}  // namespace caffe
