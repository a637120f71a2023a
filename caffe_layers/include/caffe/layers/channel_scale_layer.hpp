#ifndef CAFFE_CHANNEL_SCALE_LAYER_HPP_
#define CAFFE_CHANNEL_SCALE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief A number for every image and position, times all channels there: @f$ y_{ncp} = s_{np} x_{ncp} @f$. Of
 *        AM-Softmax's author, in NormFace's fork: GNAP gives pooled unit features the mean length back that they had,
 *        and face_train_test_wo_fn.prototxt scales the cosines of a sample by the length of its feature.
 *
 * bottom 0: x (N, C, ...), such as (N, C) or (N, C, H, W)
 * bottom 1: s, N times as many numbers as there are positions: (N, 1, H, W), (N, H, W), and without positions (N),
 *           (N, 1), (N, 1, 1, 1)
 * top: y, of the shape of x; not a bottom, since Backward needs both
 *
 * channel_scale_param; the switches change one thing each, as in the fork:
 * - do_forward (true): else y = x. Backward stays as it is.
 * - do_backward_feature (true): dx = s g, else dx = g, as if s were 1.
 * - do_backward_scale (true): ds = sum_c g x, else 0.
 * - global_scale (false): refused; in the fork, a number for all images in the place of s.
 *
 * Backward with the defaults is the derivative.
 */
template <typename Dtype>
class ChannelScaleLayer : public Layer<Dtype> {
 public:
  explicit ChannelScaleLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "ChannelScale"; }
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// y = s x
  void MultiplyCPU(const Dtype* s, const Dtype* x, Dtype* y) const;
  void MultiplyGPU(const Dtype* s, const Dtype* x, Dtype* y) const;

  bool do_forward_;
  bool do_backward_feature_;
  bool do_backward_scale_;
  int num_, channels_, spatial_;
};

}  // namespace caffe

#endif  // CAFFE_CHANNEL_SCALE_LAYER_HPP_
