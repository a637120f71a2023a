#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/label_specific_affine_layer.hpp"
#include "caffe/util/affine_score.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LabelSpecificAffineParameter& param = this->layer_param_.label_specific_affine_param();
  const string& name = this->layer_param_.name();
  CHECK(!param.auto_tune()) << "Layer " << name << ": auto_tune is not supported (it does not work, says the fork)";
  CHECK(!param.transform_test()) << "Layer " << name << ": transform_test is not supported (the fork passes scores "
      << "through in TEST whatever it says)";
  iteration_ = param.iteration();
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    this->blobs_[0].reset(new Blob<Dtype>(vector<int>(1, 3)));
    this->blobs_[0]->mutable_cpu_data()[0] = param.scale_base();
    this->blobs_[0]->mutable_cpu_data()[1] = param.bias_base();
    this->blobs_[0]->mutable_cpu_data()[2] = param.power_base();
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
  // The numbers have no gradient, but weight decay would draw them to 0.
  ParamSpec* spec = this->layer_param_.param_size() ? this->layer_param_.mutable_param(0)
      : this->layer_param_.add_param();
  spec->set_lr_mult(0);
  spec->set_decay_mult(0);
}

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 3));
  }
  label_slope_.Reshape(vector<int>(1, N_));
}

static double Within(double least, double most, double value) { return std::min(most, std::max(least, value)); }

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::NextNumbers(const vector<Blob<Dtype>*>& top) {
  const LabelSpecificAffineParameter& param = this->layer_param_.label_specific_affine_param();
  double numbers[] = {1, 0, 1};
  if (this->phase_ == TRAIN) {
    const double scale = Annealed(param.scale_base(), param.scale_gamma(), -param.scale_power(), iteration_);
    const double bias = param.bias_base() + Annealed(1, param.bias_gamma(), -param.bias_power(), iteration_) - 1;
    const double power = Annealed(param.power_base(), param.power_gamma(), -param.power_power(), iteration_);
    numbers[0] = Within(param.scale_min(), param.scale_max(), scale);
    numbers[1] = Within(param.bias_min(), param.bias_max(), bias);
    numbers[2] = Within(param.power_min(), param.power_max(), power);
    std::copy(numbers, numbers + 3, this->blobs_[0]->mutable_cpu_data());
    ++iteration_;
  }
  if (top.size() > 1) {
    std::copy(numbers, numbers + 3, top[1]->mutable_cpu_data());
  }
}

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
  NextNumbers(top);
  if (this->phase_ != TRAIN) {
    return;
  }
  CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  const Dtype* numbers = this->blobs_[0]->cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  for (int i = 0; i < N_; ++i) {
    if (label[i] >= 0) {
      AffineScore(numbers[0], numbers[1], numbers[2], y + static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i]),
          label_slope_.mutable_cpu_data() + i);
    }
  }
}

template <typename Dtype>
void LabelSpecificAffineLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
  if (this->phase_ != TRAIN || this->layer_param_.label_specific_affine_param().original_bp()) {
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < N_; ++i) {
    if (label[i] >= 0) {
      dx[static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i])] *= label_slope_.cpu_data()[i];
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(LabelSpecificAffineLayer);
#endif

INSTANTIATE_CLASS(LabelSpecificAffineLayer);
REGISTER_LAYER_CLASS(LabelSpecificAffine);

}  // namespace caffe
