#ifndef CAFFE_ADA_COS_ADDM_SCALE_LAYER_HPP_
#define CAFFE_ADA_COS_ADDM_SCALE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/base_angle_margin_layer.hpp"

namespace caffe {

/**
 * @brief AdaCos with ArcFace's margin: @f$ y = s x @f$, with @f$ \cos(\theta + m) @f$ for the label's x, and a scale s
 *        that every pass makes anew: @f$ s = \log B / \cos(\min(\pi / 4, \bar\theta)) @f$. Zhang et al. 2019 (AdaCos);
 *        xialuxi/arcface-caffe, folder AdaCos.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 is multiplied by s only, and not counted in it
 * top 0: y, of the shape of x; it may be bottom 0 itself
 *
 * adacos_add_m_scale_param:
 * - m (0.5): in radians.
 * - num_classes (8750): of the s that the first pass starts from, sqrt(2) log(num_classes - 1).
 * - transform_test (false): act in the TEST phase too (with its own s).
 *
 * B is the mean over the samples of 1 + the sum of exp(s x) over the other classes, with the s of the pass before, and
 * @f$ \bar\theta @f$ the mean angle of all scores: as published. (The paper has no 1, and the median of the labels'
 * angles.) Snapshots do not hold s. Backward is the derivative with s a constant; beyond theta + m = pi as in
 * CosinAddm.
 */
template <typename Dtype>
class AdaCosAddmScaleLayer : public BaseAngleMarginLayer<Dtype> {
 public:
  explicit AdaCosAddmScaleLayer(const LayerParameter& param) : BaseAngleMarginLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "AdaCosAddmScale"; }

 protected:
  virtual Dtype Scale_cpu(const vector<Blob<Dtype>*>& bottom, int labelled);
  virtual Dtype Scale_gpu(const vector<Blob<Dtype>*>& bottom, int labelled);

  /// The scale, from the sums of the angles and of exp(s x); as it was where no sample has a class.
  Dtype NextScale(double angles, double exponentials, int labelled) const;

  Blob<Dtype> row_sums_;  // (2, N) on the GPU: of the angles, of the exponentials
};

}  // namespace caffe

#endif  // CAFFE_ADA_COS_ADDM_SCALE_LAYER_HPP_
