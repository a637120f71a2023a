#include <string>
#include <vector>

#include "caffe/layers/cosin_addm_layer.hpp"

namespace caffe {

template <typename Dtype>
void CosinAddmLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const CosinAddmParameter& param = this->layer_param_.cosin_add_m_param();
  this->m2_ = param.m();
  this->t_ = param.t();
  CHECK_GE(param.t(), 1) << "Layer " << this->layer_param_.name() << ": expected a t of 1 or more";
  this->transform_test_ = param.transform_test();
  BaseAngleMarginLayer<Dtype>::LayerSetUp(bottom, top);
}

INSTANTIATE_CLASS(CosinAddmLayer);
REGISTER_LAYER_CLASS(CosinAddm);

}  // namespace caffe
