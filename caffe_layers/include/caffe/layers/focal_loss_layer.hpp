#ifndef CAFFE_FOCAL_LOSS_LAYER_HPP_
#define CAFFE_FOCAL_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief The softmax loss with a weight for each sample: @f$ -\frac1N \sum_i (1 - p_i)^\gamma \log p_i @f$, or
 *        @f$ (1 + p_i)^\gamma @f$ with type ONEADDP, p_i the probability of the label's class. Lin et al. 2017 (Focal
 *        loss); happynear/caffe-windows, branch experiment, whose GPU code has ONEADDP too.
 *
 * bottom 0: x (N, C, ...), scores; classes on softmax_param's axis
 * bottom 1: the labels, one for each position; a label below 0 does not count, nor does loss_param's ignore_label
 * top 0: the loss, a scalar
 * top 1 (optional): the probabilities, of the shape of x, without a gradient
 *
 * focal_loss_param:
 * - type (ORIGIN): or ONEADDP. LINEAR is refused: the fork has no code for it.
 * - gamma (2): at least 0
 * - alpha (1), beta (1): of no effect, as in the fork.
 *
 * N is as in SoftmaxWithLoss: loss_param's normalization, VALID by default. log p counts a p of at least FLT_MIN.
 * Backward is the derivative.
 */
template <typename Dtype>
class FocalLossLayer : public LossLayer<Dtype> {
 public:
  explicit FocalLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param), normalizer_(1) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "FocalLoss"; }
  virtual inline int ExactNumTopBlobs() const { return -1; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// What the sums of this pass are divided by, of `labelled` labels that count.
  Dtype Normalizer(int labelled) const;
  /// Refuses labels out of range, and counts the others.
  int CountLabels(const Blob<Dtype>& labels) const;

  shared_ptr<Layer<Dtype> > softmax_;
  Blob<Dtype> p_;  // of the shape of x
  vector<Blob<Dtype>*> softmax_bottom_, softmax_top_;
  int outer_, classes_, inner_;
  int ignore_;  // a label that does not count, or -1
  Dtype gamma_;
  bool added_;  // 1 + p
  LossParameter_NormalizationMode normalization_;
  Dtype normalizer_;  // of the last Forward
  Blob<Dtype> terms_;  // (outer, inner) on the GPU
};

}  // namespace caffe

#endif  // CAFFE_FOCAL_LOSS_LAYER_HPP_
