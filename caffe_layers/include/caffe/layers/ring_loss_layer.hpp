#ifndef CAFFE_RING_LOSS_LAYER_HPP_
#define CAFFE_RING_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief Features' lengths drawn to a learned radius: @f$ \frac1{2N} \sum_i (|f_i| - R)^2 @f$. Zheng et al. 2018 (Ring
 *        loss), equation 2, with the loss_weight for lambda.
 *
 * bottom 0: f (N, ...), everything from axis 1 on flattened to K
 * top 0: the loss, a scalar
 * blob 0: R (1)
 *
 * ring_loss_param:
 * - radius_filler: of R. Without it R is -1 until the first pass in TRAIN, which stores the mean length of its batch;
 *   TEST takes its own mean for an R below 0, and stores nothing.
 *
 * Backward is the derivative; a zero vector, whose length has none, gets 0.
 */
template <typename Dtype>
class RingLossLayer : public LossLayer<Dtype> {
 public:
  explicit RingLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param), radius_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "RingLoss"; }
  virtual inline int ExactNumBottomBlobs() const { return 1; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return true; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// R of this pass, and in TRAIN of the blob, where it is not known yet.
  Dtype Radius(double mean_length);

  int N_, K_;
  Dtype radius_;  // of the last Forward
  Blob<Dtype> lengths_;  // (N), made by Forward
};

}  // namespace caffe

#endif  // CAFFE_RING_LOSS_LAYER_HPP_
