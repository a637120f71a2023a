// The layers of other authors' nets at the sizes of real nets: see real_sizes_test.hpp. RangeLoss and RankHardLoss have
// no kernels.

#include <string>
#include <vector>

#include "real_sizes_test.hpp"

namespace caffe {

template <typename Dtype>
class RealSizesOthersTest : public RealSizesTest<Dtype> {
 protected:
  /// A layer of scores and labels: more classes than a block has threads, and more rows than a grid has blocks.
  static void CheckScores(const string& text) {
    RealSizesTest<Dtype>::Check(text, {Numbers({256, 10572}), Labels(256, 10572)});
    RealSizesTest<Dtype>::Check(text, {Numbers({70000, 33}), Labels(70000, 33)});
  }
};

TYPED_TEST_CASE(RealSizesOthersTest, TestDtypes);

TYPED_TEST(RealSizesOthersTest, AngleMargins) {
  this->CheckScores("type: 'CosinAddm'");
  this->CheckScores("type: 'Arcface'");
  this->CheckScores("type: 'CombinedMargin' combined_margin_param { m1: 1 m2: 0.3 m3: 0.2 }");
  this->CheckScores("type: 'AdaCosAddmScale'");
  if (sizeof(TypeParam) == 8) {  // in float host and GPU may place one of 2.7 million on another side of the label
    this->CheckScores("type: 'CosinAddm' cosin_add_m_param { t: 1.2 }");
  }
}

TYPED_TEST(RealSizesOthersTest, LabelSpecific) {
  this->CheckScores("type: 'LabelSpecificAffine' label_specific_affine_param { scale_base: 0.9 scale_min: 0.5 "
      "bias_base: -0.1 bias_min: -0.2 power_base: 1.2 power_max: 2 }");
  this->CheckScores("type: 'LabelSpecificHardMargin'");
  this->CheckScores("type: 'LabelSpecificHardMargin' label_specific_hard_margin_param { exact_gradient: true }");
}

TYPED_TEST(RealSizesOthersTest, OtherScores) {
  this->CheckScores("type: 'RadialRemovalMargin'");
  this->CheckScores("type: 'GlobalLSEMargin' scale_param { filler { type: 'constant' value: 20 } }");
}

TYPED_TEST(RealSizesOthersTest, NoiseTolerantFR) {
  const string type = "type: 'NoiseTolerantFR' noise_tolerant_fr_param { start_iter: 1 slide_batch_num: 1 ";
  this->Check(type + "}", {Numbers({256, 512}), Constants({256, 10572}), Labels(256, 10572)});
  this->Check(type + "shield_forward: true }", {Numbers({70000, 33}), Constants({70000, 7}), Labels(70000, 7)});
}

TYPED_TEST(RealSizesOthersTest, FocalLoss) {
  this->Check("type: 'FocalLoss'", {Numbers({256, 10572}, -5, 5), Labels(256, 10572)});
  this->Check("type: 'FocalLoss' focal_loss_param { type: ONEADDP gamma: 1.5 }",
      {Numbers({70000, 33}, -5, 5), Labels(70000, 33)});
}

TYPED_TEST(RealSizesOthersTest, FeatureLosses) {
  for (int sizes = 0; sizes < 2; ++sizes) {
    const Input x = Numbers(sizes ? vector<int>{70000, 33} : vector<int>{256, 512});
    this->Check("type: 'RingLoss' ring_loss_param { radius_filler { type: 'constant' value: 2 } }", {x});
    this->Check("type: 'RingLoss'", {x});
    this->Check("type: 'TripletLoss'", {x, x, x});
    this->Check("type: 'NormL2'", {x});
  }
}

TYPED_TEST(RealSizesOthersTest, InterClass) {
  for (int among = 0; among < 2; ++among) {
    this->Check(string("type: 'InterClass' inter_class_param { alpha_start_value: 0.7 num_output: 10572 "
        "weight_filler { type: 'gaussian' std: 0.05 } type: ") + (among ? "AMONG" : "MEAN") + " }",
        {Constants({256, 512}), Labels(256, 10572)});
  }
}

TYPED_TEST(RealSizesOthersTest, Axpy) {
  this->Check("type: 'Axpy'", {Numbers({8, 512, 1, 1}), Numbers({8, 512, 33, 31}), Numbers({8, 512, 33, 31})});
  this->Check("type: 'Axpy'", {Numbers({700, 129, 1, 1}), Numbers({700, 129, 1, 3}), Numbers({700, 129, 1, 3})});
}

TYPED_TEST(RealSizesOthersTest, DepthwiseConvolution) {
  const string type = "type: 'DepthwiseConvolution' convolution_param { weight_filler { type: 'gaussian' } "
      "bias_filler { type: 'gaussian' } ";
  this->Check(type + "num_output: 96 kernel_size: 3 pad: 1 }", {Numbers({8, 96, 57, 43})});
  this->Check(type + "num_output: 192 kernel_size: 3 stride: 2 pad: 2 dilation: 2 }", {Numbers({8, 96, 57, 43})});
  this->Check(type + "num_output: 512 kernel_h: 7 kernel_w: 6 }", {Numbers({64, 512, 7, 6})});
}

}  // namespace caffe
