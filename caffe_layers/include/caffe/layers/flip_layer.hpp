#ifndef CAFFE_FLIP_LAYER_HPP_
#define CAFFE_FLIP_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Images mirrored: @f$ y_{nchw} = x_{n,c,h',w'} @f$ with w' = W - 1 - w and h' = h. NormFace's fork; its deploy
 *        nets merge the features of a face and of its mirror image.
 *
 * bottom: x (N, C, H, W)
 * top: y (N, C, H, W); not the bottom, since numbers change places
 *
 * flip_param:
 * - flip_width (true): w' = W - 1 - w, else w' = w.
 * - flip_height (false): h' = H - 1 - h, else h' = h. With both the image is turned by 180 degrees.
 *
 * Backward: the gradient, mirrored in the same way.
 */
template <typename Dtype>
class FlipLayer : public Layer<Dtype> {
 public:
  explicit FlipLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "Flip"; }
  virtual inline int ExactNumBottomBlobs() const { return 1; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  void FlipCPU(const Dtype* from, Dtype* to) const;
  void FlipGPU(const Dtype* from, Dtype* to) const;

  bool flip_width_;
  bool flip_height_;
  int planes_, height_, width_;  // N * C, H, W
};

}  // namespace caffe

#endif  // CAFFE_FLIP_LAYER_HPP_
