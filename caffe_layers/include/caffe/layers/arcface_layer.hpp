#ifndef CAFFE_ARCFACE_LAYER_HPP_
#define CAFFE_ARCFACE_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/base_angle_margin_layer.hpp"

namespace caffe {

/**
 * @brief ArcFace: the cosine at the label becomes @f$ \cos(\theta + m) @f$. Deng et al. 2019; huangyangyu/NoiseFace.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 *
 * arcface_param:
 * - m (0.5): in radians, from 0 to pi.
 * - transform_test: of no effect, as in the published layer. It acts in TEST too.
 *
 * Beyond theta + m = pi the score is cos(theta) - m sin m, and the derivative counts a sin(theta) of at least 1e-3; see
 * CombinedAngle. (The published layer takes the first for a sin(theta) up to 1e-6 too, so that the score falls where
 * the angle becomes 0.)
 */
template <typename Dtype>
class ArcfaceLayer : public BaseAngleMarginLayer<Dtype> {
 public:
  explicit ArcfaceLayer(const LayerParameter& param) : BaseAngleMarginLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "Arcface"; }
};

}  // namespace caffe

#endif  // CAFFE_ARCFACE_LAYER_HPP_
