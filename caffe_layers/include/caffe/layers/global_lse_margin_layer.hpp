#ifndef CAFFE_GLOBAL_LSE_MARGIN_LAYER_HPP_
#define CAFFE_GLOBAL_LSE_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief A scale, and a margin that every pass makes anew: @f$ y = s x @f$, with x - m for the label's, where m > 0
 *        follows how far the labels' scores are above a soft maximum of the others'. happynear/caffe-windows (GPU only
 *        there); the `auto` text of AM-Softmax.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 is multiplied by the scale only
 * bottom 2 (optional): the scale of each sample, N numbers, in the place of s: the features' lengths
 * top 0: y, of the shape of x
 * top 1 (optional): the (mean) scale, the mean of the labels' scores, that of the soft maxima, and m (4); a report
 *       without a gradient
 * blob 0: s (1); its lr_mult is 1 and its decay_mult 0 where the text has no param, with bottom 2 both are 0
 * blob 1: m (1), which starts at 0; the solver leaves it alone
 *
 * Every pass in TRAIN: m = 0.9 m + 0.1 (u - v), or u - v while it is 0. v is the mean over the samples of
 * log(sum exp(s x)) / s over the other classes. u = 1 - exp(t - d^2) for the mean t of log(1 - x_j) and its standard
 * deviation times n / (n - 1), d: 1 - x_j, of which log is taken, counts as 1e-6 at least.
 *
 * scale_param: as Caffe's Scale has it
 * - filler: of s; without it s starts at 30.
 * - min_value, max_value: s is at most and at least that, where they are given. TRAIN stores the bounded s.
 *
 * Backward is the derivative, with m a constant: dx = s g, ds += sum g y / s, and for bottom 2 the sum of g y / s of
 * each sample. (The fork has that without the division.) TEST: y = s x, and no label is looked at.
 */
template <typename Dtype>
class GlobalLSEMarginLayer : public Layer<Dtype> {
 public:
  explicit GlobalLSEMarginLayer(const LayerParameter& param) : Layer<Dtype>(param), scale_(0), margin_(0) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "GlobalLSEMargin"; }
  virtual inline int MinBottomBlobs() const { return 2; }
  virtual inline int MaxBottomBlobs() const { return 3; }
  virtual inline int MinTopBlobs() const { return 1; }
  virtual inline int MaxTopBlobs() const { return 2; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index != 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// s, within its bounds.
  Dtype BoundedScale();
  /// m of this pass from others_, and top 1.
  void NextMargin(const vector<Blob<Dtype>*>& bottom, int labelled, const vector<Blob<Dtype>*>& top);

  int N_, C_;
  Dtype scale_, margin_;  // of the last Forward
  Blob<Dtype> others_;  // made by Forward, see OtherScores
  Blob<Dtype> row_sums_;  // (N): sums of g y / s, on the GPU
};

}  // namespace caffe

#endif  // CAFFE_GLOBAL_LSE_MARGIN_LAYER_HPP_
