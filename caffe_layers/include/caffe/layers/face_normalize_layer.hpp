#ifndef CAFFE_FACE_NORMALIZE_LAYER_HPP_
#define CAFFE_FACE_NORMALIZE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Features of length 1: @f$ y = x / \sqrt{\sum_c x_c^2 + \epsilon} @f$, or with normalize_type "L1"
 *        @f$ y = x / (\sum_c |x_c| + \epsilon) @f$, over axis 1 at every position. Wang et al. 2017 (NormFace), eq. 3.
 *
 * Type "Normalize". An SSD fork has a layer of that type already, with norm_param; there both stay, and a layer is
 * SSD's if it gives norm_param or holds a blob.
 *
 * bottom: x (N, C), (N, C, H) or (N, C, H, W)
 * top 0:  y (N, C, H, W); as in NormFace's fork a shape of fewer axes is filled up with 1. May be the bottom, and
 *         then keeps its shape.
 * top 1 (optional): the norm (N, 1, H, W)
 *
 * normalize_param:
 * - normalize_type ("L2"): or "L1".
 * - eps (1e-6): under the root for L2, added to the sum for L1; the same on CPU and GPU. The fork has 1e-6 on the
 *   CPU and 1e-12 on the GPU, so that one net gave two answers for short features.
 * - fix_gradient (false): dx = g - y<g, y> without the division by the norm, so that long features learn as fast as
 *   short ones. On both devices; the fork has it on the GPU only.
 * - bp_norm (false): let the gradient of the second top count. Published nets that look at the norm, and do not want
 *   to train through it, rely on the default.
 *
 * Backward: dx = (g - y<g, y>) / norm, L1: dx = (g - sign(x)<g, y>) / norm, as on the fork's GPU (its CPU code has a
 * macro without parentheses for the sign, and so another number); a zero vector gives y = 0 and the finite
 * gradient g / norm.
 */
template <typename Dtype>
class FaceNormalizeLayer : public Layer<Dtype> {
 public:
  explicit FaceNormalizeLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "Normalize"; }
  virtual inline int ExactNumBottomBlobs() const { return 1; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// The gradient of the norm counts.
  bool NormCounts(const vector<Blob<Dtype>*>& top) const { return bp_norm_ && top.size() > 1; }

  bool l1_;
  bool fix_gradient_;
  bool bp_norm_;
  Dtype eps_;
  int num_, channels_, spatial_;
  Blob<Dtype> norm_;  // (N, 1, H, W)
};

}  // namespace caffe

#endif  // CAFFE_FACE_NORMALIZE_LAYER_HPP_
