#ifndef CAFFE_BASE_MARGIN_INNER_PRODUCT_LAYER_HPP_
#define CAFFE_BASE_MARGIN_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief What MarginInnerProductLayer (unit weight rows) and LargeMarginInnerProductLayer (weight rows as they are)
 *        share; their headers say what is computed.
 *
 * A matrix product for all scores, and then a pass over the labels' alone: N of N x C scores and gradients.
 */
template <typename Dtype>
class BaseMarginInnerProductLayer : public Layer<Dtype> {
 public:
  explicit BaseMarginInnerProductLayer(const LayerParameter& param) : Layer<Dtype>(param), iteration_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  /// To be called before LayerSetUp. The two messages have the same fields, but for exact_gradient.
  template <typename Parameter>
  void ReadParameter(const Parameter& param, bool exact_gradient) {
    N_ = param.num_output();
    m_ = static_cast<int>(param.type()) + 1;
    weight_filler_ = param.weight_filler();
    axis_ = param.axis();
    base_ = param.base();
    gamma_ = param.gamma();
    power_ = param.power();
    lambda_min_ = param.lambda_min();
    iteration_ = param.iteration();
    exact_gradient_ = exact_gradient;
  }

  /// y from the `weight` (N, K), and lambda. Counts the pass.
  void MarginForward_cpu(const Blob<Dtype>& weight, const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);
  void MarginForward_gpu(const Blob<Dtype>& weight, const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);
  /// The gradient of bottom 0 if it is wanted, and dw = keep dw + that of the `weight` of the last pass, unless dw is
  /// NULL.
  void MarginBackward_cpu(const Blob<Dtype>& weight, const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom, Dtype keep, Dtype* dw);
  void MarginBackward_gpu(const Blob<Dtype>& weight, const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom, Dtype keep, Dtype* dw);

  int M_, K_, N_;
  bool exact_gradient_;

 private:
  /// Of this pass, also into top 1.
  Dtype NextLambda(const vector<Blob<Dtype>*>& top);
  /// Stops if the labels' gradient is asked for.
  void RefuseLabelGradient(const vector<bool>& propagate_down) const;

  int m_;
  FillerParameter weight_filler_;
  int axis_;
  double base_, gamma_, power_, lambda_min_;
  int iteration_;
  Blob<Dtype> margins_;  // (3, M), made by Forward: of each sample's LabelMargin across, along_x and along_w
};

}  // namespace caffe

#endif  // CAFFE_BASE_MARGIN_INNER_PRODUCT_LAYER_HPP_
