#ifndef CAFFE_INTER_CLASS_LAYER_HPP_
#define CAFFE_INTER_CLASS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

/**
 * @brief Pushes the classes of the weight apart. Liu et al. 2018 (SphereFace+); wy1iu/sphereface-plus.
 *
 * bottom 0: x (M, ...): only its size counts, everything from `axis` on K numbers
 * bottom 1: the labels y, M numbers; a sample with a label below 0 does not count, not in M either
 * top 0: a distance, a scalar: MEAN: 1 - the mean over the samples of u.w_y; AMONG: the sum over the samples and all
 *        N classes of |w_j - w_y|^2, divided by N. u is the mean row of w, with `normalize` u / sqrt(u.u + 1e-5).
 * top 1 (optional): alpha of this pass (1)
 * blob 0: w (N, K); share it, by the name of its param, with the layer that has the classes.
 *
 * inter_class_param:
 * - num_output: N
 * - type (AMONG): or MEAN
 * - weight_filler, axis (1), normalize (true)
 * - alpha_start_iter (0), alpha_start_value (0), alpha_step (0.1), alpha_stepvalue: alpha is 0 before pass
 *   alpha_start_iter, then alpha_start_value and alpha_step more from each alpha_stepvalue on. (In the published layer
 *   alpha stays 0 unless a pass has just that number.)
 * - iteration (0): the number of the pass before the first one in TRAIN. Snapshots do not hold it.
 *
 * Backward: a step of w, not the derivative of the top, and without its loss_weight: MEAN: dw_y += alpha u / M for each
 * sample; AMONG: dw_y += -4 alpha (w_y - u) / (M d^2 + 1e-5), d the top. x gets no gradient. (The published CUDA code
 * makes the top at every tenth pass only.)
 */
template <typename Dtype>
class InterClassLayer : public LossLayer<Dtype> {
 public:
  explicit InterClassLayer(const LayerParameter& param) : LossLayer<Dtype>(param), iteration_(0), labelled_(1),
      alpha_(0), distance_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "InterClass"; }
  virtual inline int ExactNumTopBlobs() const { return -1; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return false; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// Alpha of this pass; and top 1.
  void NextAlpha(const vector<Blob<Dtype>*>& top);
  /// Of the last Forward, the factors of u and of w_y in the step of w_y.
  void StepFactors(Dtype* of_mean, Dtype* of_row) const;

  int M_, N_, K_;
  bool among_;
  int iteration_;
  int labelled_;  // of the last Forward's samples, or 1
  double alpha_, distance_;  // of the last Forward
  Blob<Dtype> mean_;  // u (K)
  Blob<Dtype> sums_;  // (blocks, 2) on the GPU
  Blob<Dtype> ones_;  // (N)
};

}  // namespace caffe

#endif  // CAFFE_INTER_CLASS_LAYER_HPP_
