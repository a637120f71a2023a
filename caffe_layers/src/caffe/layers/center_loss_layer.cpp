#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layers/center_loss_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void CenterLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  const CenterLossParameter& param = this->layer_param_.center_loss_param();
  const string& name = this->layer_param_.name();
  const string& type = param.distance_type();
  CHECK(type == "L2" || type == "L1") << "Layer " << name << ": expected distance_type \"L2\" or \"L1\", got \""
      << type << "\"";
  l1_ = type == "L1";
  C_ = param.num_output();
  CHECK_GT(C_, 0) << "Layer " << name << ": expected a num_output of 1 or more";
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected features (N, ...) as bottom 0, got "
      << bottom[0]->shape_string();
  CHECK_EQ(bottom[0]->CanonicalAxisIndex(param.axis()), 1) << "Layer " << name << ": expected axis 1, got "
      << param.axis();
  K_ = bottom[0]->count(1);
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    vector<int> center_shape(2);
    center_shape[0] = C_;
    center_shape[1] = K_;
    this->blobs_[0].reset(new Blob<Dtype>(center_shape));
    shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.center_filler()));
    filler->Fill(this->blobs_[0].get());
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void CenterLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK(bottom[0]->num_axes() >= 2 && bottom[0]->count(1) == K_) << "Layer " << name << ": expected " << K_
      << " numbers a sample, got " << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected a label for each row of bottom 0, "
      << bottom[0]->shape_string() << ", got " << bottom[1]->shape_string();
  top[0]->Reshape(vector<int>());
  vector<int> slope_shape(2);
  slope_shape[0] = N_;
  slope_shape[1] = K_;
  slope_.Reshape(slope_shape);
}

template <typename Dtype>
void CenterLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  labelled_ = std::max(1, CheckLabels(this->layer_param_.name(), *bottom[1], C_));
  const Dtype* f = bottom[0]->cpu_data();
  const Dtype* label = bottom[1]->cpu_data();
  const Dtype* centers = this->blobs_[0]->cpu_data();
  Dtype* slope = slope_.mutable_cpu_data();
  const int count = N_ * K_;
  for (int i = 0; i < N_; ++i) {
    const int y = ClassOf(label[i]);
    if (y < 0) {
      caffe_set(K_, Dtype(0), slope + i * K_);
    } else {
      caffe_sub(K_, f + i * K_, centers + static_cast<size_t>(y) * K_, slope + i * K_);
    }
  }
  if (l1_) {
    top[0]->mutable_cpu_data()[0] = caffe_cpu_asum(count, slope) / labelled_;
    caffe_cpu_sign(count, slope, slope);
  } else {
    top[0]->mutable_cpu_data()[0] = caffe_cpu_dot(count, slope, slope) / (2 * labelled_);
  }
}

template <typename Dtype>
void CenterLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const Dtype rate = top[0]->cpu_diff()[0] / labelled_;
  const Dtype* slope = slope_.cpu_data();
  if (this->param_propagate_down_[0]) {
    const CenterLossParameter_CenterStep step = this->layer_param_.center_loss_param().center_step();
    const Dtype* label = bottom[1]->cpu_data();
    Dtype* gradient = this->blobs_[0]->mutable_cpu_diff();
    std::map<int, int> samples;  // of a class
    for (int i = 0; i < N_; ++i) {
      ++samples[ClassOf(label[i])];
    }
    for (int i = 0; i < N_; ++i) {
      const int y = ClassOf(label[i]);
      if (y < 0) {
        continue;
      }
      const int n = samples[y];
      Dtype factor = rate;
      if (step != CenterLossParameter_CenterStep_DERIVATIVE) {
        factor = Dtype(step == CenterLossParameter_CenterStep_FORK ? n : 1) / (1 + n);
      }
      caffe_axpy(K_, -factor, slope + i * K_, gradient + static_cast<size_t>(y) * K_);
    }
  }
  if (propagate_down[0]) {
    caffe_cpu_scale(N_ * K_, rate, slope, bottom[0]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(CenterLossLayer);
#endif

INSTANTIATE_CLASS(CenterLossLayer);
REGISTER_LAYER_CLASS(CenterLoss);

}  // namespace caffe
