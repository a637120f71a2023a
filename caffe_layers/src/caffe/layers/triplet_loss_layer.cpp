#include <string>
#include <vector>

#include "caffe/layers/triplet_loss_layer.hpp"

namespace caffe {

template <typename Dtype>
void TripletLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
}

template <typename Dtype>
void TripletLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[0]->num_axes(), 1) << "Layer " << this->layer_param_.name() << ": expected anchors (N, ...)";
  for (int i = 1; i < 3; ++i) {
    CHECK(bottom[i]->shape() == bottom[0]->shape()) << "Layer " << this->layer_param_.name() << ": expected the shape "
        << "of the anchors, " << bottom[0]->shape_string() << ", as bottom " << i << ", got "
        << bottom[i]->shape_string();
  }
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  top[0]->Reshape(vector<int>());
  terms_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
void TripletLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype margin = this->layer_param_.triplet_loss_param().margin();
  double sum = 0;
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * K_;
    const Dtype* a = bottom[0]->cpu_data() + at;
    const Dtype* p = bottom[1]->cpu_data() + at;
    const Dtype* n = bottom[2]->cpu_data() + at;
    Dtype term = margin;
    for (int k = 0; k < K_; ++k) {
      term += (a[k] - p[k]) * (a[k] - p[k]) - (a[k] - n[k]) * (a[k] - n[k]);
    }
    term = term < 0 ? Dtype(0) : term;  // NaN stays
    terms_.mutable_cpu_data()[i] = term;
    sum += term;
  }
  top[0]->mutable_cpu_data()[0] = sum / (2 * N_);
}

template <typename Dtype>
void TripletLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype rate = top[0]->cpu_diff()[0] / N_;
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * K_;
    const Dtype* a = bottom[0]->cpu_data() + at;
    const Dtype* p = bottom[1]->cpu_data() + at;
    const Dtype* n = bottom[2]->cpu_data() + at;
    const Dtype factor = terms_.cpu_data()[i] > 0 ? rate : Dtype(0);
    for (int k = 0; k < K_; ++k) {
      if (propagate_down[0]) {
        bottom[0]->mutable_cpu_diff()[at + k] = factor * (n[k] - p[k]);
      }
      if (propagate_down[1]) {
        bottom[1]->mutable_cpu_diff()[at + k] = factor * (p[k] - a[k]);
      }
      if (propagate_down[2]) {
        bottom[2]->mutable_cpu_diff()[at + k] = factor * (a[k] - n[k]);
      }
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(TripletLossLayer);
#endif

INSTANTIATE_CLASS(TripletLossLayer);
REGISTER_LAYER_CLASS(TripletLoss);

}  // namespace caffe
