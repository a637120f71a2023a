#ifndef CAFFE_FACE_SCALE_LAYER_HPP_
#define CAFFE_FACE_SCALE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Caffe's Scale with bounds on the learned scale: @f$ y = \min(\max(s, min\_value), max\_value) x @f$ (+ b).
 *        Wang et al. 2017 (NormFace): the learned scale of the cosines, which must not become 0 or negative.
 *
 * Type "Scale". The tree's own class does the multiplying, and serves layers without a bound alone; both stay.
 *
 * bottom: x; a scale that comes from a second bottom can't be bounded
 * top: y, of the shape of x; may be the bottom
 *
 * scale_param, as in Caffe's own layer (axis, num_axes, filler, bias_term, bias_filler), and
 * - min_value (none): the least that the scale may be.
 * - max_value (none): the most.
 * TRAIN stores the bounded scale, as NormFace's fork does: otherwise a scale that the solver has put far beyond a
 * bound would need as long to come back. In TEST the blob stays as it is, which in the fork it does not.
 *
 * Backward is Caffe's Scale's with the bounded scale; the gradient of a scale at a bound is not masked, as in the fork,
 * so that it can leave the bound again.
 */
template <typename Dtype>
class FaceScaleLayer : public ScaleLayer<Dtype> {
 public:
  explicit FaceScaleLayer(const LayerParameter& param) : ScaleLayer<Dtype>(param), bounded_(new Blob<Dtype>()) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

  /// Where the bounded scale goes: in TRAIN the blob, else a copy that has the blob's gradient for its own.
  Blob<Dtype>* Target();
  /// Unless in TRAIN puts the copy in the blob's place, where the base class looks for the scale; or back.
  void Exchange();

  Dtype min_value_, max_value_;
  shared_ptr<Blob<Dtype> > bounded_;
};

}  // namespace caffe

#endif  // CAFFE_FACE_SCALE_LAYER_HPP_
