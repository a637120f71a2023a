#ifndef CAFFE_INNER_DISTANCE_LAYER_HPP_
#define CAFFE_INNER_DISTANCE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/unit_rows.hpp"

namespace caffe {

/**
 * @brief Distances of every sample to every class's agent: @f$ d_{ij} = \sum_k (x_{ik} - w_{jk})^2 @f$ (squared), or
 *        with distance_type "L1" @f$ \sum_k |x_{ik} - w_{jk}| @f$. Wang et al. 2017 (NormFace), section 4.
 *
 * bottom 0: x (..., K), the axes from `axis` on flattened to K; M rows
 * bottom 1 (optional): W, C times K numbers, (C, K) or (C, K, 1, 1)
 * the last bottom, with update_center_only: the labels, M numbers
 * top 0: d (..., C)
 *
 * inner_distance_param:
 * - num_output: C; with W as a bottom it may be left out.
 * - weight_filler: of the learned W (C, K).
 * - axis (1)
 * - distance_type ("L2"): or "L1".
 * - normalize (false), normalize_eps (1e-6): unit rows of the learned W, as in FaceInnerProductLayer: stored in TRAIN,
 *   as the fork does; in TEST W stays as it is.
 * - update_center_only (false): W is moved by each class's own samples only: a sample's part of dW goes to the row of
 *   its label and to no other. dx stays whole. The bottoms are (x, labels) or (x, W, labels). (With the first the fork
 *   takes the labels for W.)
 * - exact_gradient (false), for "L1": the derivative g * sign(x - w). NormFace's fork has g where x > w and -1, whatever
 *   g is, where x < w (its sign is a macro without brackets), and for W the same with x and w exchanged. That is the
 *   default so that its nets train as they did; say exact_gradient: true in nets of your own.
 * - bias_term, bias_filler, transpose: of no effect, as in the fork; published nets give them.
 *
 * L2 is computed as |x|^2 + |w|^2 - 2 x.w, one matrix product instead of the fork's triple loop; a distance so small
 * that this difference has lost its digits is summed again from x - w.
 * Backward, L2: dx = 2 sum_j g_j (x - w_j), dW += 2 sum_i g_i (w - x_i).
 */
template <typename Dtype>
class InnerDistanceLayer : public Layer<Dtype> {
 public:
  explicit InnerDistanceLayer(const LayerParameter& param)
      : Layer<Dtype>(param), weight_is_bottom_(false), label_bottom_(-1) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "InnerDistance"; }
  virtual inline int MinBottomBlobs() const { return 1; }
  virtual inline int MaxBottomBlobs() const { return 3; }
  virtual inline int ExactNumTopBlobs() const { return 1; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index != label_bottom_; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// The weight that the distances were made with.
  const Blob<Dtype>& Weight(const vector<Blob<Dtype>*>& bottom) const;
  /// Where the weight's gradient goes, or NULL if nobody asks for it.
  Blob<Dtype>* WeightGradient(const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) const;

  int M_, K_, N_;
  bool l1_;
  bool normalize_;
  bool weight_is_bottom_;
  int label_bottom_;  // with update_center_only, or else -1
  bool exact_gradient_;
  UnitRows<Dtype> unit_rows_;
  Blob<Dtype> x_squares_, w_squares_;  // |x|^2 (M), |w|^2 (N)
  Blob<Dtype> ones_;  // as many as the longer of the two
};

}  // namespace caffe

#endif  // CAFFE_INNER_DISTANCE_LAYER_HPP_
