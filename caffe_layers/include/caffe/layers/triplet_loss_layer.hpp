#ifndef CAFFE_TRIPLET_LOSS_LAYER_HPP_
#define CAFFE_TRIPLET_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief The triplet loss of anchors, positives and negatives:
 *        @f$ \frac1{2N} \sum_i \max(0, |a_i - p_i|^2 - |a_i - n_i|^2 + m) @f$. Schroff et al. 2015 (FaceNet);
 *        happynear/caffe-windows and others.
 *
 * bottom 0: the anchors a (N, ...), everything from axis 1 on flattened to K
 * bottom 1: the positives p, of their shape
 * bottom 2: the negatives n, of their shape
 * top 0: the loss, a scalar
 *
 * triplet_loss_param:
 * - margin (1): m
 *
 * Backward is the derivative: da = w (n - p) / N for the triplets above 0, dp = w (p - a) / N, dn = w (a - n) / N, w
 * the loss_weight.
 */
template <typename Dtype>
class TripletLossLayer : public LossLayer<Dtype> {
 public:
  explicit TripletLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "TripletLoss"; }
  virtual inline int ExactNumBottomBlobs() const { return 3; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return true; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  int N_, K_;
  Blob<Dtype> terms_;  // (N), made by Forward: of the sum
};

}  // namespace caffe

#endif  // CAFFE_TRIPLET_LOSS_LAYER_HPP_
