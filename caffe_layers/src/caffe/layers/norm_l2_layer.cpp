#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/layers/norm_l2_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void NormL2Layer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << this->layer_param_.name() << ": expected (N, ...) as bottom 0, got "
      << bottom[0]->shape_string();
  N_ = bottom[0]->shape(0);
  K_ = bottom[0]->count(1);
  vector<int> top_shape = bottom[0]->shape();
  top_shape.resize(std::max<size_t>(top_shape.size(), 4), 1);
  top[0]->Reshape(top_shape);
  lengths_.Reshape(vector<int>(1, N_));
}

template <typename Dtype>
void NormL2Layer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * K_;
    const Dtype* x = bottom[0]->cpu_data() + at;
    const Dtype length = std::sqrt(caffe_cpu_dot(K_, x, x) + Dtype(1e-7));
    lengths_.mutable_cpu_data()[i] = length;
    caffe_cpu_scale(K_, 1 / length, x, top[0]->mutable_cpu_data() + at);
  }
}

template <typename Dtype>
void NormL2Layer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  for (int i = 0; i < N_; ++i) {
    const size_t at = static_cast<size_t>(i) * K_;
    const Dtype* y = top[0]->cpu_data() + at;
    const Dtype* g = top[0]->cpu_diff() + at;
    Dtype* dx = bottom[0]->mutable_cpu_diff() + at;
    const Dtype factor = 1 / lengths_.cpu_data()[i];
    const Dtype along = caffe_cpu_dot(K_, y, g);
    if (g != dx) {
      caffe_copy(K_, g, dx);
    }
    caffe_cpu_axpby(K_, -factor * along, y, factor, dx);
  }
}

#ifdef CPU_ONLY
STUB_GPU(NormL2Layer);
#endif

INSTANTIATE_CLASS(NormL2Layer);
REGISTER_LAYER_CLASS(NormL2);

}  // namespace caffe
