#include <string>
#include <vector>

#include "caffe/layers/axpy_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void AxpyLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK(top[0] != bottom[0] && top[0] != bottom[1]) << "Layer " << name << ": the top may be bottom 2 itself, but not "
      << "bottom 0 or 1, which Backward needs";
  CHECK_GE(bottom[1]->num_axes(), 2) << "Layer " << name << ": expected (N, C, ...) as bottom 1, got "
      << bottom[1]->shape_string();
  CHECK(bottom[1]->shape() == bottom[2]->shape()) << "Layer " << name << ": expected bottoms 1 and 2 of one shape, got "
      << bottom[1]->shape_string() << " and " << bottom[2]->shape_string();
  rows_ = bottom[1]->count(0, 2);
  positions_ = bottom[1]->count(2);
  CHECK(bottom[0]->num_axes() >= 2 && bottom[0]->shape(0) == bottom[1]->shape(0)
      && bottom[0]->shape(1) == bottom[1]->shape(1) && bottom[0]->count() == rows_) << "Layer " << name
      << ": expected a number for each channel of bottom 1, " << bottom[1]->shape_string() << ", as bottom 0, got "
      << bottom[0]->shape_string();
  top[0]->ReshapeLike(*bottom[1]);
}

template <typename Dtype>
void AxpyLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* a = bottom[0]->cpu_data();
  const Dtype* x = bottom[1]->cpu_data();
  Dtype* y = top[0]->mutable_cpu_data();
  if (top[0] != bottom[2]) {
    caffe_copy(top[0]->count(), bottom[2]->cpu_data(), y);
  }
  for (int i = 0; i < rows_; ++i) {
    caffe_axpy(positions_, a[i], x + static_cast<size_t>(i) * positions_, y + static_cast<size_t>(i) * positions_);
  }
}

template <typename Dtype>
void AxpyLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype* g = top[0]->cpu_diff();
  for (int i = 0; i < rows_; ++i) {
    const size_t at = static_cast<size_t>(i) * positions_;
    if (propagate_down[0]) {
      bottom[0]->mutable_cpu_diff()[i] = caffe_cpu_dot(positions_, g + at, bottom[1]->cpu_data() + at);
    }
    if (propagate_down[1]) {
      caffe_cpu_scale(positions_, bottom[0]->cpu_data()[i], g + at, bottom[1]->mutable_cpu_diff() + at);
    }
  }
  if (propagate_down[2] && top[0] != bottom[2]) {
    caffe_copy(top[0]->count(), g, bottom[2]->mutable_cpu_diff());
  }
}

#ifdef CPU_ONLY
STUB_GPU(AxpyLayer);
#endif

INSTANTIATE_CLASS(AxpyLayer);
REGISTER_LAYER_CLASS(Axpy);

}  // namespace caffe
