#ifndef CAFFE_LARGE_MARGIN_INNER_PRODUCT_LAYER_HPP_
#define CAFFE_LARGE_MARGIN_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/base_margin_inner_product_layer.hpp"

namespace caffe {

/**
 * @brief L-Softmax's margin: @f$ y_{ij} = x_i \cdot w_j @f$, but at the label
 *        @f$ |w_j| |x_i| \frac{\psi(\theta) + \lambda \cos \theta}{1 + \lambda} @f$, theta the angle of x_i and w_j and
 *        @f$ \psi(\theta) = (-1)^k \cos m\theta - 2k @f$ for theta in @f$ [k\pi/m, (k+1)\pi/m] @f$.
 *        Liu et al. 2016 (L-Softmax), section 4.
 *
 * Like MarginInnerProduct, but W is not normalised, neither in what is computed nor as it is stored.
 *
 * bottom 0: x (..., K), the axes from `axis` on flattened to K; M rows
 * bottom 1: the labels, M numbers; a sample with a label below 0 has no margin
 * top 0: y (..., C); in the TEST phase with the margin too
 * top 1 (optional): lambda of this pass (1); a report without a gradient
 * blob 0: W (C, K)
 *
 * largemargin_inner_product_param:
 * - num_output: C
 * - type (SINGLE): m, SINGLE 1 (no margin), DOUBLE 2, TRIPLE 3, QUADRUPLE 4.
 * - weight_filler
 * - axis (1)
 * - base (1), gamma (0), power (1), lambda_min (0): lambda = max(lambda_min, base (1 + gamma t)^-power).
 * - iteration (0): t. It counts the passes in TRAIN, this one included, from here on (with iter_size 2 an iteration is
 *   two); in TEST it stands. Snapshots do not hold it: to train on from one, say here how far it was.
 *
 * Backward is the derivative, as in NormFace's fork. For a vector of zeros theta is 90 degrees.
 */
template <typename Dtype>
class LargeMarginInnerProductLayer : public BaseMarginInnerProductLayer<Dtype> {
 public:
  explicit LargeMarginInnerProductLayer(const LayerParameter& param) : BaseMarginInnerProductLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LargeMarginInnerProduct"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
};

}  // namespace caffe

#endif  // CAFFE_LARGE_MARGIN_INNER_PRODUCT_LAYER_HPP_
