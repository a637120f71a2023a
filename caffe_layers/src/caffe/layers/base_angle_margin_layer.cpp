#include <string>
#include <vector>

#include "caffe/layers/base_angle_margin_layer.hpp"
#include "caffe/util/check_labels.hpp"
#include "caffe/util/combined_angle.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  acts_ = this->phase_ == TRAIN || transform_test_;
}

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << name << ": expected scores (N, C) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  C_ = bottom[0]->count(1);
  CHECK_EQ(bottom[1]->count(), N_) << "Layer " << name << ": expected " << N_ << " labels as bottom 1, got "
      << bottom[1]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
  vector<int> scores_shape(2, N_);
  scores_shape[0] = 2;
  scores_.Reshape(scores_shape);
  if (t_ != 1) {
    factors_.ReshapeLike(*bottom[0]);
  }
}

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* x = bottom[0]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  if (!acts_) {
    if (x != y) {
      caffe_copy(top[0]->count(), x, y);
    }
    return;
  }
  const int labelled = CheckLabels(this->layer_param_.name(), *bottom[1], C_);
  scale_ = Scale_cpu(bottom, labelled);
  const CombinedAngle<Dtype> angle(m1_, m2_, m3_);
  const Dtype* label = bottom[1]->cpu_data();
  Dtype* scores = scores_.mutable_cpu_data();
  for (int i = 0; i < N_; ++i) {
    const size_t row = static_cast<size_t>(i) * C_;
    const int own = ClassOf(label[i]);
    scores[i] = own < 0 ? Dtype(0) : x[row + own];
    scores[N_ + i] = 1;
    if (own >= 0) {
      CosineWithAngle(angle, scores + i, scores + N_ + i);
    }
    if (t_ == 1) {
      if (x != y || scale_ != 1) {
        caffe_cpu_scale(C_, scale_, x + row, y + row);
      }
    } else {
      Dtype* factor = factors_.mutable_cpu_data() + row;
      for (int j = 0; j < C_; ++j) {
        const bool hard = own >= 0 && j != own && x[row + j] > scores[i];
        factor[j] = hard ? t_ : Dtype(1);
        y[row + j] = scale_ * (hard ? t_ * x[row + j] + t_ - 1 : x[row + j]);
      }
    }
    if (own >= 0) {
      y[row + own] = scale_ * scores[i];
    }
  }
}

template <typename Dtype>
void BaseAngleMarginLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) {
    LOG(FATAL) << this->type() << " Layer cannot backpropagate to label inputs.";
  }
  if (!propagate_down[0]) {
    return;
  }
  const int count = top[0]->count();
  const Dtype* g = top[0]->cpu_diff();
  Dtype* dx = bottom[0]->mutable_cpu_diff();
  if (!acts_) {
    if (g != dx) {
      caffe_copy(count, g, dx);
    }
    return;
  }
  if (g != dx || scale_ != 1) {
    caffe_cpu_scale(count, scale_, g, dx);
  }
  if (t_ != 1) {
    caffe_mul(count, dx, factors_.cpu_data(), dx);
  }
  const Dtype* label = bottom[1]->cpu_data();
  for (int i = 0; i < N_; ++i) {
    if (label[i] >= 0) {
      dx[static_cast<size_t>(i) * C_ + static_cast<size_t>(label[i])] *= scores_.cpu_data()[N_ + i];
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(BaseAngleMarginLayer);
#endif

INSTANTIATE_CLASS(BaseAngleMarginLayer);

}  // namespace caffe
