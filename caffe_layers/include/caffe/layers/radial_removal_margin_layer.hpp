#ifndef CAFFE_RADIAL_REMOVAL_MARGIN_LAYER_HPP_
#define CAFFE_RADIAL_REMOVAL_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief The label's score becomes the others' mean, weighted as a softmax does:
 *        @f$ y_j = \sum_{k \neq j} x_k e^{s x_k} / \sum_{k \neq j} e^{s x_k} @f$. happynear/caffe-windows, branch
 *        experiment (GPU only there).
 *
 * bottom 0: x (N, C); of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 * bottom 2 (optional): s of each sample, N numbers: the features' lengths. It gets no gradient.
 * top 1 (optional): means over the samples (4), a report without a gradient: the label's score; the largest other; the
 *       margin x_j - y_j; and the others' log(sum exp(s (x - largest))) / s + largest
 *
 * radial_removal_margin_param:
 * - scale (30): s without bottom 2. (The published tree has no default, since its caffe.proto lacks the message.)
 *
 * Backward passes the gradient as it is, as in the fork. It acts in TRAIN; TEST passes x through, looks at no label and
 * reports 0.
 */
template <typename Dtype>
class RadialRemovalMarginLayer : public Layer<Dtype> {
 public:
  explicit RadialRemovalMarginLayer(const LayerParameter& param) : Layer<Dtype>(param), scales_(NULL) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "RadialRemovalMargin"; }
  virtual inline int MinBottomBlobs() const { return 2; }
  virtual inline int MaxBottomBlobs() const { return 3; }
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
  const Blob<Dtype>* scales_;  // of this pass, or NULL
  Blob<Dtype> others_;  // made by Forward, see OtherScores
  Blob<Dtype> targets_;  // (N), made by Forward
};

}  // namespace caffe

#endif  // CAFFE_RADIAL_REMOVAL_MARGIN_LAYER_HPP_
