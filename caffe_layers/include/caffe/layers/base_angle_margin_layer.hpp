#ifndef CAFFE_BASE_ANGLE_MARGIN_LAYER_HPP_
#define CAFFE_BASE_ANGLE_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief What CosinAddm, Arcface, CombinedMargin and AdaCosAddmScale share: scores of which the label's has an angular
 *        margin (CombinedAngle), the harder ones of other classes become t x + t - 1, and all are multiplied by a
 *        scale.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 is multiplied by the scale only
 * top 0: y, of the shape of x; it may be bottom 0 itself
 *
 * Backward is the derivative, with the scale taken for a constant. Without transform_test TEST passes x through, and
 * looks at no label. Derived classes set the members in their LayerSetUp, and call this one's after that.
 */
template <typename Dtype>
class BaseAngleMarginLayer : public Layer<Dtype> {
 public:
  explicit BaseAngleMarginLayer(const LayerParameter& param)
      : Layer<Dtype>(param), m1_(1), m2_(0), m3_(0), t_(1), scale_(1), transform_test_(false) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int ExactNumTopBlobs() const { return 1; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// The scale of this pass, of which `labelled` samples have a class.
  virtual Dtype Scale_cpu(const vector<Blob<Dtype>*>& bottom, int labelled) { return 1; }
  virtual Dtype Scale_gpu(const vector<Blob<Dtype>*>& bottom, int labelled) { return 1; }

  double m1_, m2_, m3_;  // angles in radians
  Dtype t_;
  Dtype scale_;  // of the last pass that acted
  bool transform_test_;
  bool acts_;  // or else passes x through
  int N_, C_;
  Blob<Dtype> scores_;  // (2, N), made by Forward: the label's score, and its slope; of no class (0, 1)
  Blob<Dtype> factors_;  // (N, C), made by Forward where t is not 1: t or 1
};

}  // namespace caffe

#endif  // CAFFE_BASE_ANGLE_MARGIN_LAYER_HPP_
