#ifndef CAFFE_FACE_INNER_PRODUCT_LAYER_HPP_
#define CAFFE_FACE_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/unit_rows.hpp"

namespace caffe {

/**
 * @brief The cosine head: @f$ y = x W^T + b @f$ with rows of W of unit length, or with W (and b) from other layers.
 *        Wang et al. 2017 (NormFace), section 3.
 *
 * Type "InnerProduct". The tree's own class serves layers with one bottom and without `normalize`; both stay.
 *
 * bottom 0: x (..., K), the axes from `axis` on flattened to K; M rows
 * bottom 1 (optional): W, num_output times K numbers, (C, K) or, as a Normalize layer gives it, (C, K, 1, 1); with
 *           `transpose` (K, C)
 * bottom 2 (optional): b, C numbers
 * top 0: y (..., C)
 *
 * inner_product_param, as in Caffe's own layer, and
 * - normalize (false): w / sqrt(sum w^2 + normalize_eps) for each row of the learned weight; with one bottom only.
 *   TRAIN stores the unit rows, as NormFace's fork does and as its nets (lr_mult 100, decay_mult 0) need: the solver
 *   would otherwise let the rows grow, and its steps shrink against them. In TEST the weight stays as it is, which in
 *   the fork it does not.
 * - normalize_eps (1e-6): under the root, on CPU and GPU.
 * - num_output: with W as a bottom it may be left out, and is checked against W if given.
 * - bias_term: with W as a bottom and no third bottom it has to be false.
 *
 * Backward: dx = g W, dW += g^T x, db += sum g. With `normalize` dW is that of the unit rows, the part along the row
 * included, as in the fork: the next Forward takes that part out again. Gradients of bottoms are set, of blobs added.
 */
template <typename Dtype>
class FaceInnerProductLayer : public Layer<Dtype> {
 public:
  explicit FaceInnerProductLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "InnerProduct"; }
  virtual inline int MinBottomBlobs() const { return 1; }
  virtual inline int MaxBottomBlobs() const { return 3; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// The weight that y was made with, and NULL or the bias.
  const Blob<Dtype>& Weight(const vector<Blob<Dtype>*>& bottom) const;
  const Blob<Dtype>* Bias(const vector<Blob<Dtype>*>& bottom) const;
  /// Where the gradient of W (index 0) or b (1) goes, or NULL if nobody asks for it.
  Blob<Dtype>* GradientOf(int index, const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) const;

  int M_, K_, N_;
  bool bias_term_;  // b is a blob
  bool transpose_;
  bool normalize_;
  UnitRows<Dtype> unit_rows_;
  Blob<Dtype> bias_multiplier_;
};

}  // namespace caffe

#endif  // CAFFE_FACE_INNER_PRODUCT_LAYER_HPP_
