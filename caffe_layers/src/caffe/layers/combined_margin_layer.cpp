#include <string>
#include <vector>

#include "caffe/layers/combined_margin_layer.hpp"

namespace caffe {

template <typename Dtype>
void CombinedMarginLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const CombinedMarginParameter& param = this->layer_param_.combined_margin_param();
  CHECK_GT(param.m1(), 0) << "Layer " << this->layer_param_.name() << ": expected an m1 above 0";
  this->m1_ = param.m1();
  this->m2_ = param.m2();
  this->m3_ = param.m3();
  this->transform_test_ = param.transform_test();
  BaseAngleMarginLayer<Dtype>::LayerSetUp(bottom, top);
}

INSTANTIATE_CLASS(CombinedMarginLayer);
REGISTER_LAYER_CLASS(CombinedMargin);

}  // namespace caffe
