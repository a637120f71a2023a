#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/inter_class_layer.hpp"
#include "caffe/filler.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/keep_ones.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void InterClassLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const bool weighted = this->layer_param_.loss_weight_size() > 0;
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  if (!weighted && top.size() > 1) {
    this->layer_param_.add_loss_weight(0);
  }
  const InterClassParameter& param = this->layer_param_.inter_class_param();
  const string& name = this->layer_param_.name();
  among_ = param.type() == InterClassParameter_InterClassType_AMONG;
  iteration_ = param.iteration();
  N_ = param.num_output();
  K_ = bottom[0]->count(bottom[0]->CanonicalAxisIndex(param.axis()));
  CHECK_GT(N_, 0) << "Layer " << name << ": expected a num_output of 1 or more";
  for (int i = 1; i < param.alpha_stepvalue_size(); ++i) {
    CHECK_GT(param.alpha_stepvalue(i), param.alpha_stepvalue(i - 1)) << "Layer " << name << ": expected each "
        << "alpha_stepvalue above the one before";
  }
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    vector<int> weight_shape(2, K_);
    weight_shape[0] = N_;
    this->blobs_[0].reset(new Blob<Dtype>(weight_shape));
    shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.weight_filler()));
    filler->Fill(this->blobs_[0].get());
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
  mean_.Reshape(vector<int>(1, K_));
  KeepOnes(N_, &ones_);
}

template <typename Dtype>
void InterClassLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const int axis = bottom[0]->CanonicalAxisIndex(this->layer_param_.inter_class_param().axis());
  CHECK_EQ(bottom[0]->count(axis), K_) << "Layer " << name << ": expected " << K_ << " numbers from axis " << axis
      << " of bottom 0 on, got " << bottom[0]->shape_string();
  M_ = bottom[0]->count(0, axis);
  CHECK_EQ(bottom[1]->count(), M_) << "Layer " << name << ": expected " << M_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 1));
  }
}

template <typename Dtype>
void InterClassLayer<Dtype>::NextAlpha(const vector<Blob<Dtype>*>& top) {
  const InterClassParameter& param = this->layer_param_.inter_class_param();
  if (this->phase_ == TRAIN) {
    ++iteration_;
  }
  alpha_ = 0;
  if (iteration_ >= param.alpha_start_iter()) {
    alpha_ = param.alpha_start_value();
    for (int i = 0; i < param.alpha_stepvalue_size() && param.alpha_stepvalue(i) <= iteration_; ++i) {
      alpha_ += param.alpha_step();
    }
  }
  if (top.size() > 1) {
    top[1]->mutable_cpu_data()[0] = alpha_;
  }
}

template <typename Dtype>
void InterClassLayer<Dtype>::StepFactors(Dtype* of_mean, Dtype* of_row) const {
  if (among_) {
    *of_row = -4 * alpha_ / (labelled_ * distance_ * distance_ + 1e-5);
    *of_mean = -*of_row;
  } else {
    *of_row = 0;
    *of_mean = alpha_ / labelled_;
  }
}

template <typename Dtype>
void InterClassLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], N_));
  NextAlpha(top);
  const Dtype* w = this->blobs_[0]->cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* mean = mean_.mutable_cpu_data();
  caffe_cpu_gemv<Dtype>(CblasTrans, N_, K_, Dtype(1) / N_, w, ones_.cpu_data(), Dtype(0), mean);
  double distance = 0;
  if (among_) {
    // sum_j |w_j - w_y|^2 = sum_j |w_j|^2 - 2 N u.w_y + N |w_y|^2
    const double squares = caffe_cpu_dot(N_ * K_, w, w);
    for (int i = 0; i < M_; ++i) {
      if (label[i] >= 0) {
        const Dtype* row = w + static_cast<size_t>(label[i]) * K_;
        distance += squares / N_ - 2 * caffe_cpu_dot(K_, mean, row) + caffe_cpu_dot(K_, row, row);
      }
    }
  }
  if (this->layer_param_.inter_class_param().normalize()) {
    caffe_scal(K_, Dtype(1 / std::sqrt(caffe_cpu_dot(K_, mean, mean) + 1e-5)), mean);
  }
  if (!among_) {
    distance = 1;
    for (int i = 0; i < M_; ++i) {
      if (label[i] >= 0) {
        distance -= caffe_cpu_dot(K_, mean, w + static_cast<size_t>(label[i]) * K_) / labelled_;
      }
    }
  }
  distance_ = distance;
  top[0]->mutable_cpu_data()[0] = distance;
}

template <typename Dtype>
void InterClassLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[0]) {
    caffe_set(bottom[0]->count(), Dtype(0), bottom[0]->mutable_cpu_diff());
  }
  if (!this->param_propagate_down_[0]) {
    return;
  }
  Dtype of_mean, of_row;
  StepFactors(&of_mean, &of_row);
  const Dtype* label = bottom[1]->cpu_data();
  for (int i = 0; i < M_; ++i) {
    if (label[i] >= 0) {
      const size_t at = static_cast<size_t>(label[i]) * K_;
      Dtype* dw = this->blobs_[0]->mutable_cpu_diff() + at;
      caffe_axpy(K_, of_mean, mean_.cpu_data(), dw);
      caffe_axpy(K_, of_row, this->blobs_[0]->cpu_data() + at, dw);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(InterClassLayer);
#endif

INSTANTIATE_CLASS(InterClassLayer);
REGISTER_LAYER_CLASS(InterClass);

}  // namespace caffe
