#ifndef CAFFE_MARGIN_INNER_PRODUCT_LAYER_HPP_
#define CAFFE_MARGIN_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/unit_rows.hpp"

#include "caffe/layers/base_margin_inner_product_layer.hpp"

namespace caffe {

/**
 * @brief SphereFace's angular margin: @f$ y_{ij} = x_i \cdot w_j @f$ with rows of W of unit length, but at the label
 *        @f$ |x_i| \frac{\psi(\theta) + \lambda \cos \theta}{1 + \lambda} @f$, theta the angle of x_i and w_j and
 *        @f$ \psi(\theta) = (-1)^k \cos m\theta - 2k @f$ for theta in @f$ [k\pi/m, (k+1)\pi/m] @f$.
 *        Liu et al. 2017 (SphereFace); psi and lambda are those of Liu et al. 2016 (L-Softmax), section 4.
 *
 * bottom 0: x (..., K), the axes from `axis` on flattened to K; M rows
 * bottom 1: the labels, M numbers; a sample with a label below 0 has no margin
 * top 0: y (..., C); in the TEST phase with the margin too
 * top 1 (optional): lambda of this pass (1); a report without a gradient
 * blob 0: W (C, K)
 *
 * margin_inner_product_param:
 * - num_output: C
 * - type (SINGLE): m, SINGLE 1 (no margin), DOUBLE 2, TRIPLE 3, QUADRUPLE 4.
 * - weight_filler
 * - axis (1)
 * - base (1), gamma (0), power (1), lambda_min (0): lambda = max(lambda_min, base (1 + gamma t)^-power).
 * - iteration (0): t. It counts the passes in TRAIN, this one included, from here on (with iter_size 2 an iteration is
 *   two); in TEST it stands. Snapshots do not hold it: to train on from one, say here how far it was.
 * - exact_gradient (false): backward is the derivative. The published layer has another gradient, the default so that
 *   its nets train as they did; say exact_gradient: true in nets of your own. The published one:
 *   - of W, g^T x as if there were no margin;
 *   - of x, of the label's score (a w + b x + lambda w) / (1 + lambda), where a w + b x is the derivative of |x| psi
 *     scaled to a^2 + b^2 = 1.
 *
 * The rows are divided by sqrt(sum w^2 + 1e-12). TRAIN stores them, as the published layer does (where a row of zeros
 * becomes NaN), also with exact_gradient: what the next pass computes is the same, and the solver's steps do not
 * shrink against growing rows. In TEST W stays as it is.
 *
 * With exact_gradient dW is the derivative by the stored W through the division by the row's length n,
 * @f$ (g_w - w (w \cdot g_w)) / n @f$ with g_w that by the unit row w: a step along the sphere. In TRAIN W is the unit
 * rows by then and n is 1. Without it dW keeps its part along the row, which the next pass takes out of W.
 * (To check the derivative by finite differences use the TEST phase: in TRAIN Forward normalises what one has put in.)
 */
template <typename Dtype>
class MarginInnerProductLayer : public BaseMarginInnerProductLayer<Dtype> {
 public:
  explicit MarginInnerProductLayer(const LayerParameter& param) : BaseMarginInnerProductLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "MarginInnerProduct"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  static Dtype UnitEps() { return Dtype(1e-12); }

  UnitRows<Dtype> unit_rows_;
  Blob<Dtype> unit_gradient_;  // (C, K), with exact_gradient: in its diff the gradient of the unit rows
};

}  // namespace caffe

#endif  // CAFFE_MARGIN_INNER_PRODUCT_LAYER_HPP_
