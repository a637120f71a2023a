#include <string>
#include <vector>

#include "caffe/layers/depthwise_convolution_layer.hpp"

namespace caffe {

template <typename Dtype>
void DepthwiseConvolutionLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  ConvolutionParameter* param = this->layer_param_.mutable_convolution_param();
  const int channels = bottom[0]->shape(bottom[0]->CanonicalAxisIndex(param->axis()));
  CHECK_EQ(param->num_output() % channels, 0) << "Layer " << this->layer_param_.name()
      << ": expected a num_output that is a multiple of the bottom's " << channels << " channels, got "
      << param->num_output();
  param->set_group(channels);
  ConvolutionLayer<Dtype>::LayerSetUp(bottom, top);
}

#ifdef CPU_ONLY
STUB_GPU(DepthwiseConvolutionLayer);
#endif

INSTANTIATE_CLASS(DepthwiseConvolutionLayer);
REGISTER_LAYER_CLASS(DepthwiseConvolution);

}  // namespace caffe
