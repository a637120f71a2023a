#ifndef CAFFE_LABEL_SPECIFIC_HARD_MARGIN_LAYER_HPP_
#define CAFFE_LABEL_SPECIFIC_HARD_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief The label's score becomes a mean of itself and of the others' mean: @f$ y_j = w x_j + \frac{1 - w}{C - 1}
 *        \sum_{k \neq j} x_k @f$. happynear/caffe-windows, branch experiment (GPU only there).
 *
 * bottom 0: x (N, C); of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * top 1 (optional): the mean of y_j - x_j over the samples, times 180 / pi (1): degrees, of scores that are angles; a
 *       report without a gradient
 *
 * label_specific_hard_margin_param:
 * - positive_weight (0.5): w
 * - exact_gradient (false): backward is the derivative. The fork passes the gradient as it is, which is the default.
 *
 * It acts in TRAIN; TEST passes x through, looks at no label and reports 0.
 */
template <typename Dtype>
class LabelSpecificHardMarginLayer : public Layer<Dtype> {
 public:
  explicit LabelSpecificHardMarginLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "LabelSpecificHardMargin"; }
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

  /// The labels' new scores, and top 1, from others_.
  void Report(int labelled, const vector<Blob<Dtype>*>& top);

  int N_, C_;
  Blob<Dtype> others_;  // made by Forward, see OtherScores
  Blob<Dtype> targets_;  // (N), made by Forward
};

}  // namespace caffe

#endif  // CAFFE_LABEL_SPECIFIC_HARD_MARGIN_LAYER_HPP_
