#ifndef CAFFE_COMBINED_MARGIN_LAYER_HPP_
#define CAFFE_COMBINED_MARGIN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/base_angle_margin_layer.hpp"

namespace caffe {

/**
 * @brief The margins of SphereFace, ArcFace and AM-Softmax in one: the cosine at the label becomes
 *        @f$ \cos(m_1 \theta + m_2) - m_3 @f$. Deng et al. 2019; gehaocool/CombinedMargin-caffe, xialuxi/arcface-caffe.
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 *
 * combined_margin_param:
 * - m1 (4): above 0.
 * - m2 (0.5): in radians.
 * - m3 (0.35)
 * - transform_test (false): act in the TEST phase too.
 *
 * Backward is the derivative, with a sin(theta) of at least 1e-3. Where m1 theta + m2 leaves [0, pi] the score goes on
 * as the cosine does, without a jump; see CombinedAngle. (The published CPU code lets it rise again there, the CUDA
 * code keeps it at -1 - m3, without a gradient, and bounds the factor of the gradient to [0, 2].)
 */
template <typename Dtype>
class CombinedMarginLayer : public BaseAngleMarginLayer<Dtype> {
 public:
  explicit CombinedMarginLayer(const LayerParameter& param) : BaseAngleMarginLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "CombinedMargin"; }
};

}  // namespace caffe

#endif  // CAFFE_COMBINED_MARGIN_LAYER_HPP_
