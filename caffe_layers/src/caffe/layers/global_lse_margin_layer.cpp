#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/global_lse_margin_layer.hpp"
#include "caffe/filler.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/other_scores.hpp"

namespace caffe {

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    const ScaleParameter& param = this->layer_param_.scale_param();
    this->blobs_.resize(2);
    for (int i = 0; i < 2; ++i) {
      this->blobs_[i].reset(new Blob<Dtype>(vector<int>(1, 1)));
    }
    this->blobs_[0]->mutable_cpu_data()[0] = 30;
    if (param.has_filler()) {
      shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.filler()));
      filler->Fill(this->blobs_[0].get());
    }
    this->blobs_[1]->mutable_cpu_data()[0] = 0;
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
  if (this->layer_param_.param_size() == 0) {
    ParamSpec* spec = this->layer_param_.add_param();
    spec->set_lr_mult(bottom.size() > 2 ? 0 : 1);
    spec->set_decay_mult(0);
  }
  ParamSpec* spec = this->layer_param_.param_size() > 1 ? this->layer_param_.mutable_param(1)
      : this->layer_param_.add_param();
  spec->set_lr_mult(0);
  spec->set_decay_mult(0);
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  CHECK(top[0] != bottom[0]) << "Layer " << name << ": expected another top than its bottom";
  if (bottom.size() > 2) {
    CHECK_EQ(bottom[2]->count(), N_) << "Layer " << name << ": expected " << N_ << " scales as bottom 2, got "
        << bottom[2]->shape_string();
  }
  top[0]->ReshapeLike(*bottom[0]);
  if (top.size() > 1) {
    top[1]->Reshape(vector<int>(1, 4));
  }
  row_sums_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
Dtype GlobalLSEMarginLayer<Dtype>::BoundedScale() {
  const ScaleParameter& param = this->layer_param_.scale_param();
  Dtype scale = this->blobs_[0]->cpu_data()[0];
  if (param.has_min_value()) {
    scale = std::max(scale, Dtype(param.min_value()));
  }
  if (param.has_max_value()) {
    scale = std::min(scale, Dtype(param.max_value()));
  }
  if (this->phase_ == TRAIN) {
    this->blobs_[0]->mutable_cpu_data()[0] = scale;
  }
  return scale;
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::NextMargin(const vector<Blob<Dtype>*>& bottom, int labelled,
    const vector<Blob<Dtype>*>& top) {
  const Dtype* label = labelled > 0 ? bottom[1]->cpu_data() : NULL;
  double mean = 0, squares = 0, soft = 0, scales = 0;
  for (int i = 0; i < N_; ++i) {
    const Dtype scale = bottom.size() > 2 ? bottom[2]->cpu_data()[i] : scale_;
    scales += scale;
    if (labelled > 0 && label[i] >= 0) {
      const Dtype* of = others_.cpu_data() + i;
      const double short_of_one = 1 - static_cast<double>(of[OWN_SCORE * N_]);
      const double logarithm = std::log(short_of_one < 1e-6 ? 1e-6 : short_of_one);
      mean += logarithm / labelled;
      squares += logarithm * logarithm / labelled;
      soft += (std::log(of[EXPONENTIALS * N_]) / scale + of[LARGEST_OTHER * N_]) / labelled;
    }
  }
  double own = 0;
  if (labelled > 0) {
    const double deviation = labelled > 1
        ? std::sqrt(std::max(squares - mean * mean, 0.)) / (labelled - 1) * labelled : 0;
    own = 1 - std::exp(mean - deviation * deviation);
    const double apart = own - soft;
    Dtype* margin = this->blobs_[1]->mutable_cpu_data();
    if (apart == apart) {  // or NaN, which x has already, and the blob must not get
      *margin = *margin == 0 ? apart : 0.9 * *margin + 0.1 * apart;
    }
    margin_ = *margin;
  }
  if (top.size() > 1) {
    Dtype* report = top[1]->mutable_cpu_data();
    report[0] = scales / N_;
    report[1] = own;
    report[2] = soft;
    report[3] = labelled > 0 ? margin_ : this->blobs_[1]->cpu_data()[0];
  }
  margin_ = std::max(margin_, Dtype(0));
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  scale_ = BoundedScale();
  margin_ = 0;
  const Blob<Dtype>* scales = bottom.size() > 2 ? bottom[2] : NULL;
  if (this->phase_ == TRAIN) {
    const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
    OtherScoresCPU<Dtype>(*bottom[0], *bottom[1], scales, scale_, &others_);
    NextMargin(bottom, labelled, top);
  } else {
    NextMargin(bottom, 0, top);
  }
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * C_;
    const Dtype scale = scales ? scales->cpu_data()[i] : scale_;
    caffe_cpu_scale(C_, scale, bottom[0]->cpu_data() + at, top[0]->mutable_cpu_data() + at);
    if (margin_ > 0 && bottom[1]->cpu_data()[i] >= 0) {
      top[0]->mutable_cpu_data()[at + static_cast<int>(bottom[1]->cpu_data()[i])] -= scale * margin_;
    }
  }
}

template <typename Dtype>
void GlobalLSEMarginLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  const bool own_scale = bottom.size() < 3;
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * C_;
    const Dtype* g = top[0]->cpu_diff() + at;
    const Dtype scale = own_scale ? scale_ : bottom[2]->cpu_data()[i];
    Dtype slope = caffe_cpu_dot(C_, g, bottom[0]->cpu_data() + at);
    if (margin_ > 0 && bottom[1]->cpu_data()[i] >= 0) {
      slope -= margin_ * g[static_cast<int>(bottom[1]->cpu_data()[i])];
    }
    if (own_scale && this->param_propagate_down_[0]) {
      this->blobs_[0]->mutable_cpu_diff()[0] += slope;
    } else if (!own_scale && propagate_down[2]) {
      bottom[2]->mutable_cpu_diff()[i] = slope;
    }
    if (propagate_down[0]) {
      caffe_cpu_scale(C_, scale, g, bottom[0]->mutable_cpu_diff() + at);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(GlobalLSEMarginLayer);
#endif

INSTANTIATE_CLASS(GlobalLSEMarginLayer);
REGISTER_LAYER_CLASS(GlobalLSEMargin);

}  // namespace caffe
