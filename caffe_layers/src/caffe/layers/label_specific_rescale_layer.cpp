#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layers/label_specific_rescale_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/margin_psi.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const LabelSpecificRescaleParameter& param = this->layer_param_.label_specific_rescale_param();
  const string& name = this->layer_param_.name();
  CHECK(!param.positive_lower_bound()) << "Layer " << name << ": positive_lower_bound is not supported (NormFace's "
      << "fork has the field but no code for it)";
  CHECK(!param.negative_upper_bound()) << "Layer " << name << ": negative_upper_bound is not supported (NormFace's "
      << "fork has the field but no code for it)";
  CHECK(!param.power_on_positive()) << "Layer " << name << ": power_on_positive is not supported (the CPU and GPU "
      << "code of NormFace's fork mean different things by it)";
  if (param.has_positive_weight_min() && param.has_positive_weight_max()) {
    CHECK_LE(param.positive_weight_min(), param.positive_weight_max()) << "Layer " << name
        << ": expected a positive_weight_min of at most positive_weight_max";
  }
  acts_ = this->phase_ == TRAIN || param.rescale_test();
  for_ip_ = param.for_ip();
  bias_fix_ = param.bias_fix();
  positive_weight_ = param.positive_weight();
  negative_weight_ = param.negative_weight();
  iteration_ = param.iteration();
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
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
  label_factor_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Prepare(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LabelSpecificRescaleParameter& param = this->layer_param_.label_specific_rescale_param();
  if (this->phase_ == TRAIN && param.has_positive_weight_base()) {
    ++iteration_;
    double weight = Annealed(param.positive_weight_base(), param.gamma(), param.power(), iteration_);
    if (param.has_positive_weight_min()) {
      weight = std::max<double>(param.positive_weight_min(), weight);
    }
    if (param.has_positive_weight_max()) {
      weight = std::min<double>(param.positive_weight_max(), weight);
    }
    positive_weight_ = weight;
  }
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = positive_weight_;
  }
  if (acts_) {
    CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  }
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  Prepare(bottom, top);
  if (!acts_) {
    if (top[0] != bottom[0]) {
      caffe_copy(top[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
    }
    return;
  }
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  Dtype* factor = label_factor_.mutable_cpu_data();
  for (int i = 0; i < N_; ++i) {
    const size_t row = static_cast<size_t>(i) * C_;
    if (label[i] < 0) {
      if (x != y) {
        caffe_copy(C_, x + row, y + row);
      }
      continue;
    }
    const size_t at = row + static_cast<size_t>(label[i]);
    const Dtype score = x[at];
    const bool alone = for_ip_ && !(score > 0);
    factor[i] = alone ? Dtype(1) : positive_weight_;
    if (x != y || negative_weight_ != 1) {
      caffe_cpu_scale(C_, negative_weight_, x + row, y + row);
    }
    y[at] = score * factor[i] + (bias_fix_ && !alone ? 1 - positive_weight_ : Dtype(0));
  }
}

template <typename Dtype>
void LabelSpecificRescaleLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* g = top[0]->cpu_diff();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  if (!acts_ || !this->layer_param_.label_specific_rescale_param().do_backward()) {
    if (top[0] != bottom[0]) {
      caffe_copy(top[0]->count(), g, dx);
    }
    return;
  }
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* factor = label_factor_.cpu_data();
  for (int i = 0; i < N_; ++i) {
    const size_t row = static_cast<size_t>(i) * C_;
    if (label[i] < 0) {
      if (g != dx) {
        caffe_copy(C_, g + row, dx + row);
      }
      continue;
    }
    const size_t at = row + static_cast<size_t>(label[i]);
    const Dtype slope = g[at];
    if (g != dx || negative_weight_ != 1) {
      caffe_cpu_scale(C_, negative_weight_, g + row, dx + row);
    }
    dx[at] = slope * factor[i];
  }
}

#ifdef CPU_ONLY
STUB_GPU(LabelSpecificRescaleLayer);
#endif

INSTANTIATE_CLASS(LabelSpecificRescaleLayer);
REGISTER_LAYER_CLASS(LabelSpecificRescale);

}  // namespace caffe
