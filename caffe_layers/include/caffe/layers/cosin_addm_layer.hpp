#ifndef CAFFE_COSIN_ADDM_LAYER_HPP_
#define CAFFE_COSIN_ADDM_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "caffe/layers/base_angle_margin_layer.hpp"

namespace caffe {

/**
 * @brief ArcFace, and with t SV-X-Softmax: the cosine at the label becomes @f$ s = \cos(\theta + m) @f$, and another
 *        class's score x above s becomes @f$ t x + t - 1 @f$. Deng et al. 2019, Wang et al. 2020; xialuxi/arcface-caffe
 *        (the one with t in its folder SV_X_Softmax).
 *
 * bottom 0: x (N, C), cosines; of more axes those from 1 on are flattened to C
 * bottom 1: the labels, N numbers; a sample with a label below 0 stays as it is
 * top 0: y, of the shape of x; it may be bottom 0 itself
 *
 * cosin_add_m_param:
 * - m (0.5): in radians.
 * - t (1): at least 1.
 * - transform_test (false): act in the TEST phase too.
 *
 * Beyond theta + m = pi the score is cos(theta) - m sin m, and the derivative counts a sin(theta) of at least 1e-3; see
 * CombinedAngle. Backward is the derivative. (The published CUDA code leaves out the gradient that comes in, and the
 * published code with t multiplies the gradients of all other classes by t if there is one above s.)
 */
template <typename Dtype>
class CosinAddmLayer : public BaseAngleMarginLayer<Dtype> {
 public:
  explicit CosinAddmLayer(const LayerParameter& param) : BaseAngleMarginLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "CosinAddm"; }
};

}  // namespace caffe

#endif  // CAFFE_COSIN_ADDM_LAYER_HPP_
