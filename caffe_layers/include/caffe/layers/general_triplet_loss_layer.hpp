#ifndef CAFFE_GENERAL_TRIPLET_LOSS_LAYER_HPP_
#define CAFFE_GENERAL_TRIPLET_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/// The layer's parameters as a kernel takes them.
template <typename Dtype>
struct GeneralTripletOptions {
  /// Of a sample's negatives: which count (or the number of the only class that does).
  enum { ALL_NEGATIVES = -1, NO_NEGATIVE = -2 };

  Dtype margin;
  Dtype positive_weight, negative_weight;
  Dtype positive_upper_bound;
  bool add_center_loss;
  bool hardest_only;
  bool positive_first;
  bool exact_gradient;
};

/**
 * @brief The triplet loss of distances to class agents:
 *        @f$ \frac{w_-}{N} \sum_i \sum_{j \neq y} \max(0, d_{iy} + m - d_{ij}) @f$.
 *        Wang et al. 2017 (NormFace), section 4: the C-triplet loss (margin 0.8 and hardest_only there). The
 *        distances are not squared here: InnerDistance gives squared ones.
 *
 * bottom 0: d (N, C) or (N, C, 1, 1), from InnerDistance
 * bottom 1: the labels y, N numbers; a sample with a label below 0 does not count, not in N either
 * top 0: the loss, a scalar
 * top 1 (optional): a report, (2): the mean distance to the label's agent and to the others. Published nets give it a
 *       loss_weight; it has no gradient whatever that is. With no loss_weight at all in the layer its own is 0.
 *
 * general_triplet_loss_param:
 * - margin (0.2) m
 * - hardest_only (false): of a sample's terms the largest only.
 * - positive_first (false), positive_upper_bound (1): no terms for a sample with d_y above the bound.
 * - negative_weight (1) w-, >= 0
 * - positive_weight (1) w+, >= 0, and add_center_loss (true): of the gradient only, see there.
 * - exact_gradient (false): backward is the derivative: -w- at the d_j of every term, and at d_y w- times their number.
 *   NormFace's fork has w+ at d_y, once, if there is a term or positive_first has left them out, and with
 *   add_center_loss always. That is the default so that its nets train as they did (and it keeps a sample with
 *   thousands of terms from being pulled thousands of times). exact_gradient leaves add_center_loss out and does not
 *   go with another positive_weight than 1.
 */
template <typename Dtype>
class GeneralTripletLossLayer : public LossLayer<Dtype> {
 public:
  explicit GeneralTripletLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "GeneralTripletLoss"; }
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

  int N_, C_;
  int labelled_;  // of the last Forward's samples, or 1
  GeneralTripletOptions<Dtype> options_;
  // Made by Forward, (N).
  Blob<Dtype> reach_;  // d_y + margin: nearer negatives have a term
  Blob<Dtype> pull_;  // the slope at d_y
  Blob<int> negatives_;  // which negatives count, see GeneralTripletOptions
  Blob<Dtype> row_sums_;  // (2, N) on the GPU: sum of the terms that count; sum of the other classes' distances
};

}  // namespace caffe

#endif  // CAFFE_GENERAL_TRIPLET_LOSS_LAYER_HPP_
