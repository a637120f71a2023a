#include <vector>

#include "caffe/layers/large_margin_inner_product_layer.hpp"

namespace caffe {

template <typename Dtype>
void LargeMarginInnerProductLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  this->ReadParameter(this->layer_param_.largemargin_inner_product_param(), true);
  BaseMarginInnerProductLayer<Dtype>::LayerSetUp(bottom, top);
}

template <typename Dtype>
void LargeMarginInnerProductLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  this->MarginForward_cpu(*this->blobs_[0], bottom, top);
}

template <typename Dtype>
void LargeMarginInnerProductLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  this->MarginBackward_cpu(*this->blobs_[0], top, propagate_down, bottom, Dtype(1),
      this->param_propagate_down_[0] ? this->blobs_[0]->mutable_cpu_diff() : NULL);
}

#ifdef CPU_ONLY
STUB_GPU(LargeMarginInnerProductLayer);
#endif

INSTANTIATE_CLASS(LargeMarginInnerProductLayer);
REGISTER_LAYER_CLASS(LargeMarginInnerProduct);

}  // namespace caffe
