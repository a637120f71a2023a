#include <cmath>
#include <string>
#include <vector>

#include "caffe/layers/ring_loss_layer.hpp"
#include "caffe/filler.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void RingLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  if (this->blobs_.size() > 0) {
    LOG(INFO) << "Skipping parameter initialization";
  } else {
    this->blobs_.resize(1);
    this->blobs_[0].reset(new Blob<Dtype>(vector<int>(1, 1)));
    const RingLossParameter& param = this->layer_param_.ring_loss_param();
    this->blobs_[0]->mutable_cpu_data()[0] = -1;
    if (param.has_radius_filler()) {
      shared_ptr<Filler<Dtype> > filler(GetFiller<Dtype>(param.radius_filler()));
      filler->Fill(this->blobs_[0].get());
    }
  }
  this->param_propagate_down_.resize(this->blobs_.size(), true);
}

template <typename Dtype>
void RingLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[0]->num_axes(), 1) << "Layer " << this->layer_param_.name() << ": expected features (N, ...)";
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  top[0]->Reshape(vector<int>());
  lengths_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
Dtype RingLossLayer<Dtype>::Radius(double mean_length) {
  const Dtype radius = this->blobs_[0]->cpu_data()[0];
  if (!(radius < 0)) {
    return radius;
  }
  if (this->phase_ == TRAIN) {
    this->blobs_[0]->mutable_cpu_data()[0] = mean_length;
  }
  return mean_length;
}

template <typename Dtype>
void RingLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Dtype* lengths = lengths_.mutable_cpu_data();
  double sum = 0;
  for (int i = 0; i < N_; ++i) {
    const Dtype* f = bottom[0]->cpu_data() + static_cast<size_t>(i) * K_;
    lengths[i] = std::sqrt(caffe_cpu_dot(K_, f, f));
    sum += lengths[i];
  }
  radius_ = Radius(sum / N_);
  double loss = 0;
  for (int i = 0; i < N_; ++i) {
    loss += (lengths[i] - radius_) * (lengths[i] - radius_);
  }
  top[0]->mutable_cpu_data()[0] = loss / (2 * N_);
}

template <typename Dtype>
void RingLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype rate = top[0]->cpu_diff()[0] / N_;
  const Dtype* lengths = lengths_.cpu_data();
  for (int i = 0; i < N_; ++i) {
    const Dtype beyond = lengths[i] - radius_;
    if (this->param_propagate_down_[0]) {
      this->blobs_[0]->mutable_cpu_diff()[0] -= rate * beyond;
    }
    if (propagate_down[0]) {
      const size_t at = static_cast<size_t>(i) * K_;
      caffe_cpu_scale(K_, lengths[i] == 0 ? Dtype(0) : rate * beyond / lengths[i], bottom[0]->cpu_data() + at,
          bottom[0]->mutable_cpu_diff() + at);
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(RingLossLayer);
#endif

INSTANTIATE_CLASS(RingLossLayer);
REGISTER_LAYER_CLASS(RingLoss);

}  // namespace caffe
