#ifndef CAFFE_LABEL_SPECIFIC_ADD_LAYER_HPP_
#define CAFFE_LABEL_SPECIFIC_ADD_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief AM-Softmax's additive margin: the score of the label's class gets a bias, @f$ y_j = x_j + b @f$, where
 *        @f$ x_j > -b @f$; all other scores stay. Wang et al. 2018 (AM-Softmax), whose nets have b = -0.35; the
 *        condition is not in the paper but in NormFace's fork, which they are trained with.
 *
 * bottom 0: x (N, C) or (N, C, ...): then the bias is added at every position
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * top 1 (optional): b of this pass (1); a report without a gradient
 *
 * label_specific_add_param:
 * - bias (0): b; a margin is negative.
 * - bias_base: with it b changes in TRAIN: b = bias_base + (1 + bias_gamma t)^bias_power - 1 within bias_min and
 *   bias_max.
 * - bias_gamma (0), bias_power (1)
 * - bias_min (0), bias_max (0): both count if bias_base is given, so that without them b is 0.
 * - iteration (0): t of the first pass in TRAIN; every pass in TRAIN counts (with iter_size 2 an iteration is two).
 *   Snapshots do not hold it: to train on from one, say here how far it was.
 * - transform_test (false): act in the TEST phase too, with `bias`. The fork has the field but acts in TRAIN only.
 *
 * Without transform_test TEST passes x through, and looks at no label. Backward: the gradient as it is, which is the
 * derivative but for the step at x_j = -b.
 */
template <typename Dtype>
class LabelSpecificAddLayer : public Layer<Dtype> {
 public:
  explicit LabelSpecificAddLayer(const LayerParameter& param) : Layer<Dtype>(param), bias_(0), iteration_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LabelSpecificAdd"; }
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// What comes before the scores on both devices: bias_ of this pass, top 1, the labels' check. False: pass x through.
  bool Prepare(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  int N_, C_, positions_;
  Dtype bias_;
  int iteration_;
};

}  // namespace caffe

#endif  // CAFFE_LABEL_SPECIFIC_ADD_LAYER_HPP_
