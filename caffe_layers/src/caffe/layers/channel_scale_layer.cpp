#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/channel_scale_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void ChannelScaleLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ChannelScaleParameter& param = this->layer_param_.channel_scale_param();
  CHECK(!param.global_scale()) << "Layer " << this->layer_param_.name()
      << ": global_scale is not supported; a Scale layer with num_axes: 0 has one number for all images";
  do_forward_ = param.do_forward();
  do_backward_feature_ = param.do_backward_feature();
  do_backward_scale_ = param.do_backward_scale();
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK(top[0] != bottom[0] && top[0] != bottom[1]) << "Layer " << this->layer_param_.name()
      << ": expected a top of another name than the bottoms', which Backward needs as they are";
  CHECK_GE(bottom[0]->num_axes(), 2) << "Layer " << this->layer_param_.name()
      << ": expected a bottom 0 of 2 axes or more (N, C, ...), got " << bottom[0]->shape_string();
  num_ = bottom[0]->shape(0);
  channels_ = bottom[0]->shape(1);
  spatial_ = bottom[0]->count(2);
  const bool numbered = bottom[1]->num_axes() > 0 && bottom[1]->shape(0) == num_;
  CHECK(numbered && bottom[1]->count() == num_ * spatial_) << "Layer " << this->layer_param_.name()
      << ": expected a scale for each of " << num_ << " images and " << spatial_
      << " positions as bottom 1, got " << bottom[1]->shape_string();
  top[0]->ReshapeLike(*bottom[0]);
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::MultiplyCPU(const Dtype* s, const Dtype* x, Dtype* y) const {
  for (int n = 0; n < num_; ++n) {
    if (spatial_ == 1) {
      caffe_cpu_scale(channels_, s[n], x, y);
      x += channels_;
      y += channels_;
      continue;
    }
    for (int c = 0; c < channels_; ++c) {
      caffe_mul(spatial_, s + n * spatial_, x, y);
      x += spatial_;
      y += spatial_;
    }
  }
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (do_forward_) {
    MultiplyCPU(bottom[1]->cpu_data(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  } else {
    caffe_copy(bottom[0]->count(), bottom[0]->cpu_data(), top[0]->mutable_cpu_data());
  }
}

template <typename Dtype>
void ChannelScaleLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  const Dtype* g = top[0]->cpu_diff();
  if (propagate_down[0]) {
    if (do_backward_feature_) {
      MultiplyCPU(bottom[1]->cpu_data(), g, bottom[0]->mutable_cpu_diff());
    } else {
      caffe_copy(bottom[0]->count(), g, bottom[0]->mutable_cpu_diff());
    }
  }
  if (!propagate_down[1]) {
    return;
  }
  Dtype* ds = bottom[1]->mutable_cpu_diff();
  caffe_set(bottom[1]->count(), Dtype(0), ds);
  if (!do_backward_scale_) {
    return;
  }
  const Dtype* x = bottom[0]->cpu_data();
  for (int n = 0; n < num_; ++n) {
    if (spatial_ == 1) {
      ds[n] = caffe_cpu_dot(channels_, g, x);
      g += channels_;
      x += channels_;
      continue;
    }
    for (int c = 0; c < channels_; ++c) {
      for (int p = 0; p < spatial_; ++p) {
        ds[p] += g[p] * x[p];
      }
      g += spatial_;
      x += spatial_;
    }
    ds += spatial_;
  }
}

#ifdef CPU_ONLY
STUB_GPU(ChannelScaleLayer);
#endif

INSTANTIATE_CLASS(ChannelScaleLayer);
REGISTER_LAYER_CLASS(ChannelScale);

}  // namespace caffe
