#ifndef CAFFE_DEPTHWISE_CONVOLUTION_LAYER_HPP_
#define CAFFE_DEPTHWISE_CONVOLUTION_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/conv_layer.hpp"

namespace caffe {

/**
 * @brief Convolution with a group for every channel, whatever `group` says. MobileNet's; yonghenglh6's
 *        DepthwiseConvolution.
 *
 * bottom 0, ...: x (N, C, H, W), or of other spatial axes
 * top 0, ...: y (N, num_output, ...); num_output is a multiple of C
 * blob 0: (num_output, 1, kernel); blob 1: the bias (num_output)
 *
 * convolution_param: Caffe's own. The engine is Caffe's; on the GPU two spatial axes have kernels of their own, without
 * im2col and a matrix product for each group.
 */
template <typename Dtype>
class DepthwiseConvolutionLayer : public ConvolutionLayer<Dtype> {
 public:
  explicit DepthwiseConvolutionLayer(const LayerParameter& param) : ConvolutionLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "DepthwiseConvolution"; }

 protected:
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  Blob<Dtype> parts_;  // of the gradients of the weight and the bias, on the GPU
};

}  // namespace caffe

#endif  // CAFFE_DEPTHWISE_CONVOLUTION_LAYER_HPP_
