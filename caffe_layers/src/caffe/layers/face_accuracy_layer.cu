#include <vector>

#include "caffe/layers/face_accuracy_layer.hpp"
#include "caffe/util/device_alternate.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void FaceAccuracyLayer<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckScoredLabels(bottom);
  caffe_gpu_scale(negated_.count(), Dtype(-1), bottom[0]->gpu_data(), negated_.mutable_gpu_data());
  vector<Blob<Dtype>*> negated_bottom(bottom);
  negated_bottom[0] = &negated_;
  AccuracyLayer<Dtype>::Forward_gpu(negated_bottom, top);
}

INSTANTIATE_LAYER_GPU_FORWARD(FaceAccuracyLayer);

}  // namespace caffe
