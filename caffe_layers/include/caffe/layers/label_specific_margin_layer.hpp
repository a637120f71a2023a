#ifndef CAFFE_LABEL_SPECIFIC_MARGIN_LAYER_HPP_
#define CAFFE_LABEL_SPECIFIC_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief An additive angular margin: the cosine at the label becomes @f$ \cos(\theta + m) = x_j \cos m -
 *        \sqrt{1 - x_j^2} \sin m @f$; all other scores stay. NormFace's fork.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * top 1 (optional): m in degrees (1); a report without a gradient
 * blob 0: m in degrees (1). The solver leaves it alone (its lr_mult and decay_mult become 0). It starts at margin_base,
 *         or 0, or comes from a snapshot.
 *
 * label_specific_margin_param:
 * - margin_base: with it m changes in TRAIN: m = margin_base + (1 + gamma t)^power - 1. Mind the defaults: they add a
 *   degree a pass. Without it m stays as the blob has it.
 * - gamma (1), power (1)
 * - margin_max: m is at most that, where it is given. TRAIN stores the m it computes with in the blob.
 * - iteration (0): t of the first pass in TRAIN; every pass in TRAIN counts (with iter_size 2 an iteration is two).
 *   Snapshots hold m but not t: to train on from one, say here how far it was.
 * - margin_on_test (false): act in the TEST phase too. The fork has the field but acts in TRAIN only.
 * - exact_gradient (true): backward at the label is the derivative @f$ \cos m + \cot(\theta) \sin m @f$, and where
 *   @f$ \theta + m > \pi @f$ the score is @f$ \cos\theta - m \sin m @f$, as ArcFace's authors have it, so that it
 *   falls with theta all the way; see AngularMargin. With false it is NormFace's fork in its first version: a minus for
 *   the plus, which pushes a near sample away from its class, and cos(theta + m) all the way. Its author corrected the
 *   sign in December 2017.
 * - pass_bp (false): the gradient passes as it is, as if there were no margin.
 * - type (HARD): SOFT is refused; the fork has it on the GPU only.
 * - auto_tune, reset_margin: refused; the fork's CPU code has nothing for them.
 *
 * The root is that of max(0, 1 - x_j^2) + 1e-12, so that a cosine beyond 1 by rounding gives a number. The factor of
 * the gradient is at most 1001: it counts a sin(theta) below 1e-3 as that. The fork's GPU code cuts x_j to +-0.9999 and
 * the factor to [0, 2] instead. Without margin_on_test TEST passes x through, and looks at no label.
 */
template <typename Dtype>
class LabelSpecificMarginLayer : public Layer<Dtype> {
 public:
  explicit LabelSpecificMarginLayer(const LayerParameter& param)
      : Layer<Dtype>(param), iteration_(0), acts_(false) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LabelSpecificMargin"; }
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

  /// What comes before the scores on both devices: top 1, the labels' check. Returns m of this pass, in degrees.
  double Prepare(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  int N_, C_;
  bool exact_gradient_;
  int iteration_;
  bool acts_;  // or else passes x through
  Blob<Dtype> label_slope_;  // (N), made by Forward: dy / dx at the label
};

}  // namespace caffe

#endif  // CAFFE_LABEL_SPECIFIC_MARGIN_LAYER_HPP_
