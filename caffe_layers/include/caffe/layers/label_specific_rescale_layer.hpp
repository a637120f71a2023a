#ifndef CAFFE_LABEL_SPECIFIC_RESCALE_LAYER_HPP_
#define CAFFE_LABEL_SPECIFIC_RESCALE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief One factor for the score of the label's class and one for all others: @f$ y_j = w_+ x_j @f$ at the label,
 *        @f$ y_j = w_- x_j @f$ elsewhere. NormFace's fork; its authors trained with w+ = 0.75 at a scale of 15, a
 *        margin that is a share of the score.
 *
 * bottom 0: x (N, C); of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * top 1 (optional): w+ of this pass (1); a report without a gradient
 *
 * label_specific_rescale_param:
 * - positive_weight (1), negative_weight (1): w+, w-.
 * - for_ip (false): leave a label's score alone unless it is positive: for inner products, where w+ < 1 would otherwise
 *   help a negative one.
 * - do_backward (true): with false the gradient passes as it is.
 * - bias_fix (false): add 1 - w+ to the label's score, so that a cosine of 1 stays 1 (with for_ip to a positive one).
 * - positive_weight_base: with it w+ changes in TRAIN: w+ = positive_weight_base (1 + gamma t)^-power within
 *   positive_weight_min and positive_weight_max, where these are given.
 * - gamma (0), power (1)
 * - iteration (0): t. It counts the passes in TRAIN, this one included, from here on (with iter_size 2 an iteration is
 *   two). Snapshots do not hold it: to train on from one, say here how far it was.
 * - rescale_test (false): act in the TEST phase too, with positive_weight.
 * - positive_lower_bound, negative_upper_bound: refused; the fork has the fields but no code for them.
 * - power_on_positive: refused; the fork's CPU and GPU code mean different things by it.
 *
 * Without rescale_test TEST passes x through, and looks at no label. Backward is the derivative: the score's own
 * factor, that of the last pass.
 */
template <typename Dtype>
class LabelSpecificRescaleLayer : public Layer<Dtype> {
 public:
  explicit LabelSpecificRescaleLayer(const LayerParameter& param)
      : Layer<Dtype>(param), positive_weight_(1), iteration_(0), acts_(false) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LabelSpecificRescale"; }
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

  /// What comes before the scores on both devices: positive_weight_ of this pass, top 1, the labels' check.
  void Prepare(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  int N_, C_;
  bool for_ip_;
  bool bias_fix_;
  Dtype positive_weight_, negative_weight_;
  int iteration_;
  bool acts_;  // or else passes x through
  Blob<Dtype> label_factor_;  // (N), made by Forward, since the top may overwrite what for_ip decides by
};

}  // namespace caffe

#endif  // CAFFE_LABEL_SPECIFIC_RESCALE_LAYER_HPP_
