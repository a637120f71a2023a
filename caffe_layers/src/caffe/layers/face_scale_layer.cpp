#include <algorithm>
#include <limits>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_scale_layer.hpp"
#include "caffe/layers/scale_layer.hpp"

namespace caffe {

template <typename Dtype>
void FaceScaleLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ScaleParameter& param = this->layer_param_.scale_param();
  CHECK_EQ(bottom.size(), 1) << "Layer " << this->layer_param_.name()
      << ": min_value and max_value are for a learned scale, not for one that is a bottom";
  const Dtype infinity = std::numeric_limits<Dtype>::infinity();
  min_value_ = param.has_min_value() ? param.min_value() : -infinity;
  max_value_ = param.has_max_value() ? param.max_value() : infinity;
  CHECK_LE(min_value_, max_value_) << "Layer " << this->layer_param_.name()
      << ": expected a min_value of max_value at most";
  ScaleLayer<Dtype>::LayerSetUp(bottom, top);
}

template <typename Dtype>
Blob<Dtype>* FaceScaleLayer<Dtype>::Target() {
  Blob<Dtype>* scale = this->blobs_[0].get();
  if (this->phase_ == TRAIN) {
    return scale;
  }
  bounded_->ReshapeLike(*scale);
  bounded_->ShareDiff(*scale);
  return bounded_.get();
}

template <typename Dtype>
void FaceScaleLayer<Dtype>::Exchange() {
  if (this->phase_ != TRAIN) {
    this->blobs_[0].swap(bounded_);
  }
}

template <typename Dtype>
void FaceScaleLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* scale = this->blobs_[0]->cpu_data();
  Dtype* bounded = Target()->mutable_cpu_data();
  for (int i = 0; i < this->blobs_[0]->count(); ++i) {
    bounded[i] = std::min(std::max(scale[i], min_value_), max_value_);
  }
  Exchange();
  ScaleLayer<Dtype>::Forward_cpu(bottom, top);
  Exchange();
}

template <typename Dtype>
void FaceScaleLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  Exchange();
  ScaleLayer<Dtype>::Backward_cpu(top, propagate_down, bottom);
  Exchange();
}

#ifdef CPU_ONLY
STUB_GPU(FaceScaleLayer);
#endif

INSTANTIATE_CLASS(FaceScaleLayer);

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceScaleLayer(const LayerParameter& param) {
  if (param.scale_param().has_min_value() || param.scale_param().has_max_value()) {
    return shared_ptr<Layer<Dtype> >(new FaceScaleLayer<Dtype>(param));
  }
  return shared_ptr<Layer<Dtype> >(new ScaleLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(Scale, GetFaceScaleLayer);

}  // namespace caffe
