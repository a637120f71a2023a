#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/accuracy_layer.hpp"
#include "caffe/layers/face_accuracy_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void FaceAccuracyLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  AccuracyLayer<Dtype>::Reshape(bottom, top);
  negated_.ReshapeLike(*bottom[0]);
}

template <typename Dtype>
void FaceAccuracyLayer<Dtype>::CheckScoredLabels(const vector<Blob<Dtype>*>& bottom) const {
  const AccuracyParameter& param = this->layer_param_.accuracy_param();
  const int classes = bottom[0]->shape(param.axis());
  const Dtype* label = bottom[1]->cpu_data();
  for (int i = 0; i < bottom[1]->count(); ++i) {
    const int value = static_cast<int>(label[i]);
    const bool ignored = param.has_ignore_label() && value == param.ignore_label();
    CHECK(ignored || (value >= 0 && value < classes)) << "Layer " << this->layer_param_.name() << ": label " << label[i]
        << " of sample " << i << " is out of range; expected 0 to " << classes - 1
        << (param.has_ignore_label() ? " or the ignored ignore_label" : "");
  }
}

template <typename Dtype>
void FaceAccuracyLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (bottom[0] == &negated_) {
    // From Forward_gpu, in a tree whose AccuracyLayer has no code for the GPU: Layer's leads back to here.
    AccuracyLayer<Dtype>::Forward_cpu(bottom, top);
    return;
  }
  CheckScoredLabels(bottom);
  caffe_cpu_scale(negated_.count(), Dtype(-1), bottom[0]->cpu_data(), negated_.mutable_cpu_data());
  vector<Blob<Dtype>*> negated_bottom(bottom);
  negated_bottom[0] = &negated_;
  AccuracyLayer<Dtype>::Forward_cpu(negated_bottom, top);
}

#ifdef CPU_ONLY
STUB_GPU_FORWARD(FaceAccuracyLayer, Forward);
#endif

INSTANTIATE_CLASS(FaceAccuracyLayer);

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetFaceAccuracyLayer(const LayerParameter& param) {
  if (param.accuracy_param().min_is_better()) {
    return shared_ptr<Layer<Dtype> >(new FaceAccuracyLayer<Dtype>(param));
  }
  return shared_ptr<Layer<Dtype> >(new AccuracyLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(Accuracy, GetFaceAccuracyLayer);

}  // namespace caffe
