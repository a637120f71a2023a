#include <vector>

#include "caffe/layers/large_margin_inner_product_layer.hpp"

namespace caffe {

template <typename Dtype>
void LargeMarginInnerProductLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  this->MarginForward_gpu(*this->blobs_[0], bottom, top);
}

template <typename Dtype>
void LargeMarginInnerProductLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  this->MarginBackward_gpu(*this->blobs_[0], top, propagate_down, bottom, Dtype(1),
      this->param_propagate_down_[0] ? this->blobs_[0]->mutable_gpu_diff() : NULL);
}

INSTANTIATE_LAYER_GPU_FUNCS(LargeMarginInnerProductLayer);

}  // namespace caffe
