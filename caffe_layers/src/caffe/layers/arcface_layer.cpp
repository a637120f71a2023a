#include <string>
#include <vector>

#include "caffe/layers/arcface_layer.hpp"

namespace caffe {

template <typename Dtype>
void ArcfaceLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ArcfaceParameter& param = this->layer_param_.arcface_param();
  this->m2_ = param.m();
  CHECK(param.m() >= 0 && param.m() < 3.14159265) << "Layer " << this->layer_param_.name()
      << ": expected an m from 0 to pi, in radians, got " << param.m();
  this->transform_test_ = true;
  BaseAngleMarginLayer<Dtype>::LayerSetUp(bottom, top);
}

INSTANTIATE_CLASS(ArcfaceLayer);
REGISTER_LAYER_CLASS(Arcface);

}  // namespace caffe
