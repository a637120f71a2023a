#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/label_specific_add_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LabelSpecificAddParameter& param = this->layer_param_.label_specific_add_param();
  const string& name = this->layer_param_.name();
  bias_ = param.bias();
  iteration_ = param.iteration();
  if (param.has_bias_base()) {
    CHECK_LE(param.bias_min(), param.bias_max()) << "Layer " << name
        << ": expected a bias_min of at most bias_max (0 where one is not given)";
    LOG_IF(WARNING, param.bias_min() == param.bias_max()) << "Layer " << name << ": bias_min and bias_max are both "
        << param.bias_max() << ", and so is the bias at every pass";
  }
}

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->shape(1);
  positions_ = bottom[0]->count(2);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 1));
  }
}

template <typename Dtype>
bool LabelSpecificAddLayer<Dtype>::Prepare(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LabelSpecificAddParameter& param = this->layer_param_.label_specific_add_param();
  if (this->phase_ == TRAIN && param.has_bias_base()) {
    const double bias = param.bias_base() + Annealed(1, param.bias_gamma(), -param.bias_power(), iteration_) - 1;
    bias_ = std::min<double>(param.bias_max(), std::max<double>(param.bias_min(), bias));
    ++iteration_;
  }
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = bias_;
  }
  if (this->phase_ != TRAIN && !param.transform_test()) {
    return false;
  }
  CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  return true;
}

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const bool acts = Prepare(bottom, top);
  if (top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
  if (!acts) {
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  for (int i = 0; i < N_; ++i) {
    if (label[i] < 0) {
      continue;
    }
    Dtype* scores = y + (static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i])) * positions_;
    for (int p = 0; p < positions_; ++p) {
      if (scores[p] > -bias_) {
        scores[p] += bias_;
      }
    }
  }
}

template <typename Dtype>
void LabelSpecificAddLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (propagate_down[0] && top[0] != bottom[0]) {
    caffe_copy(top[0]->count(), top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(LabelSpecificAddLayer);
#endif

INSTANTIATE_CLASS(LabelSpecificAddLayer);
REGISTER_LAYER_CLASS(LabelSpecificAdd);

}  // namespace caffe
