#ifndef CAFFE_NORM_L2_LAYER_HPP_
#define CAFFE_NORM_L2_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief A whole sample divided by its length: @f$ y_n = x_n / \sqrt{\sum_k x_{nk}^2 + 10^{-7}} @f$.
 *        huangyangyu/NoiseFace and xialuxi/arcface-caffe.
 *
 * bottom 0: x (N, ...), everything from axis 1 on a sample
 * top 0: y, of the shape of x, but of four axes at least: (N, K, 1, 1) for x (N, K); it may be bottom 0 itself
 *
 * norm_l2_param has nothing that counts. Backward is the derivative: dx = (g - y <y, g>) / the root.
 */
template <typename Dtype>
class NormL2Layer : public Layer<Dtype> {
 public:
  explicit NormL2Layer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "NormL2"; }
  virtual inline int ExactNumBottomBlobs() const { return 1; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  int N_, K_;
  Blob<Dtype> lengths_;  // (N), made by Forward
};

}  // namespace caffe

#endif  // CAFFE_NORM_L2_LAYER_HPP_
