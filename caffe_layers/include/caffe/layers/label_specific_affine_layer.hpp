#ifndef CAFFE_LABEL_SPECIFIC_AFFINE_LAYER_HPP_
#define CAFFE_LABEL_SPECIFIC_AFFINE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief The label's score is raised to a power, scaled and shifted: @f$ y_j = s x_j^p @f$ where @f$ x_j > 0 @f$, and
 *        @f$ s x_j^p + b @f$ where that is above @f$ -b @f$ too. happynear/caffe-windows, branch experiment.
 *
 * bottom 0: x (N, C); of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * top 1 (optional): s, b and p of this pass (3), a report without a gradient; 1, 0, 1 in TEST
 * blob 0: s, b and p of the last pass (3). The solver leaves it alone.
 *
 * label_specific_affine_param: at training pass t, the first one being `iteration` (0; snapshots do not hold it),
 * - s = scale_base (1) (1 + scale_gamma (0) t)^scale_power (1), within scale_min (1) and scale_max (1)
 * - b = bias_base (0) + (1 + bias_gamma (0) t)^bias_power (1) - 1, within bias_min (0) and bias_max (0)
 * - p = power_base (1) (1 + power_gamma (0) t)^power_power (-1), within power_min (1) and power_max (1)
 * - original_bp (false): the gradient passes as it is; or else it is the derivative.
 * - auto_tune, transform_test: refused. reset, scale_factor, protect_low_bound: of no effect without auto_tune.
 *
 * That is the fork's GPU code. Its CPU code has another function under the name, pi^(1-p) s x^p + b up to pi, which no
 * published net was trained with. TEST passes x through, and looks at no label.
 */
template <typename Dtype>
class LabelSpecificAffineLayer : public Layer<Dtype> {
 public:
  explicit LabelSpecificAffineLayer(const LayerParameter& param) : Layer<Dtype>(param), iteration_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LabelSpecificAffine"; }
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

  /// s, b and p of this pass, into the blob and top 1.
  void NextNumbers(const vector<Blob<Dtype>*>& top);

  int N_, C_;
  int iteration_;
  Blob<Dtype> label_slope_;  // (N), made by Forward: dy / dx at the label
};

}  // namespace caffe

#endif  // CAFFE_LABEL_SPECIFIC_AFFINE_LAYER_HPP_
