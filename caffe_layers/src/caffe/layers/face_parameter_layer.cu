#include <vector>

#include "caffe/layers/face_parameter_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void FaceParameterLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  top[0]->ShareData(*this->blobs_[0]);
}

template <typename Dtype>
void FaceParameterLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (this->param_propagate_down_[0]) {
    caffe_gpu_axpy(top[0]->count(), Dtype(1), top[0]->gpu_diff(), this->blobs_[0]->mutable_gpu_diff());
  }
}

INSTANTIATE_LAYER_GPU_FUNCS(FaceParameterLayer);

}  // namespace caffe
