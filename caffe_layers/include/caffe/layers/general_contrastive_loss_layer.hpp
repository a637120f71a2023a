#ifndef CAFFE_GENERAL_CONTRASTIVE_LOSS_LAYER_HPP_
#define CAFFE_GENERAL_CONTRASTIVE_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/// The layer's parameters as a kernel takes them.
template <typename Dtype>
struct GeneralContrastiveOptions {
  /// Of a sample's negatives: which count (or the number of the only class that does).
  enum { ALL_NEGATIVES = -1, NO_NEGATIVE = -2 };

  Dtype positive_margin, negative_margin;
  Dtype positive_weight, negative_weight;
  Dtype positive_outlier_thresh, positive_upper_bound;
  Dtype normalize_negative;  // 0: it is not given
  Dtype max_negative_margin;
  bool max_negative_only, max_positive_only;
  bool positive_first;
  bool exp_negative_weight;
  bool exact_gradient;
  bool update_running_mean;  // add_intra_mae, and this is the TRAIN phase
};

/**
 * @brief The contrastive loss of distances to class agents:
 *        @f$ \frac1N \sum_i \left[ w_+ \min(\max(d_{iy} - m_+, 0), t)
 *            + w_- \sum_{j \neq y} \max(0, m_- - d_{ij}) \right] @f$.
 *        Wang et al. 2017 (NormFace), section 4: the C-contrastive loss. The distances are not squared here:
 *        InnerDistance gives squared ones.
 *
 * bottom 0: d (N, C) or (N, C, 1, 1), from InnerDistance
 * bottom 1: the labels y, N numbers; a sample with a label below 0 does not count, not in N either
 * bottom 2 (optional): of the shape of d, the distances that the gradient of d is made from in place of d: which of
 *       them are within the margins, and exp(-d). It gets no gradient. Not with exact_gradient.
 * top 0: the loss, a scalar
 * top 1 (optional): a report, (2) or with add_intra_mae (3): the mean over the samples of the positive term and over
 *       samples and other classes of max(0, m- - d), of all of them and without weights; the running mean. Published
 *       nets give it a loss_weight; it has no gradient whatever that is. With no loss_weight at all in the layer its
 *       own is 0.
 *
 * general_contrastive_loss_param:
 * - positive_margin (0) m+, negative_margin (1) m-, positive_weight (1) w+, negative_weight (1) w-: weights >= 0.
 * - positive_outlier_thresh (4): t >= 0, what a sample too far from its agent counts at most.
 * - exp_negative_weight (false): exp(-d) in place of m- - d, for the d < m-.
 * - positive_first (false), positive_upper_bound (1): no negatives for a sample with d_y above the bound.
 * - max_negative_only (false): of a sample's negative terms the largest only. As in the fork, for a sample of class 0
 *   none if the weighted positive term is as large (the search begins with class 0, be it the label or not).
 * - max_positive_only (false): of all samples' positive terms only the smallest, as the fork has it.
 * - add_intra_mae (false), max_negative_margin (1.2): m- grows by a running mean r of the positive terms, which every
 *   Forward in TRAIN, after its own use of it, sets to min(0.99 r + 0.01 mean, max_negative_margin). It starts at 0
 *   and is not part of a snapshot.
 * - normalize_negative (not given): > 0; divides the negatives' gradient by s = its sum / (normalize_negative N)
 *   where s > w+.
 * - exact_gradient (false): backward is the derivative. NormFace's fork pulls a positive with w+ for m+ < d_y < t,
 *   though the term is constant from m+ + t on only, and always where positive_first leaves out the negatives. That
 *   is the default so that its nets train as they did; say exact_gradient: true in nets of your own. It does not go
 *   with normalize_negative, which is a change of the gradient alone.
 * - square: refused; the fork has the field but no code for it.
 */
template <typename Dtype>
class GeneralContrastiveLossLayer : public LossLayer<Dtype> {
 public:
  explicit GeneralContrastiveLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "GeneralContrastiveLoss"; }
  virtual inline int ExactNumBottomBlobs() const { return -1; }
  virtual inline int MinBottomBlobs() const { return 2; }
  virtual inline int MaxBottomBlobs() const { return 3; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }
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

  /// What state_ holds.
  enum { RUNNING_MEAN, MARGIN, NEGATIVE_FACTOR, STATES };

  int N_, C_;
  int labelled_;  // of the last Forward's samples, or 1
  GeneralContrastiveOptions<Dtype> options_;
  // Made by Forward. The running mean lives in a blob so that the GPU need not wait for the host.
  Blob<Dtype> state_;  // RUNNING_MEAN; the MARGIN and the negatives' NEGATIVE_FACTOR of the last pass
  Blob<Dtype> pull_;  // (N) the slope at d_y
  Blob<int> negatives_;  // (N) which negatives count where positive_first does not leave them out
  Blob<Dtype> row_sums_;  // (3, N) on the GPU: sum of max(0, m- - d); negative terms; their gradient
};

}  // namespace caffe

#endif  // CAFFE_GENERAL_CONTRASTIVE_LOSS_LAYER_HPP_
