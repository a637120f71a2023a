// What Caffe's layer_factory.cpp has for the layers that are built here; that file wants all layers of Caffe.

#include "caffe/layer_factory.hpp"
#include "caffe/layers/softmax_layer.hpp"

namespace caffe {

template <typename Dtype>
shared_ptr<Layer<Dtype> > GetSoftmaxLayer(const LayerParameter& param) {
  return shared_ptr<Layer<Dtype> >(new SoftmaxLayer<Dtype>(param));
}

REGISTER_LAYER_CREATOR(Softmax, GetSoftmaxLayer);

}  // namespace caffe
