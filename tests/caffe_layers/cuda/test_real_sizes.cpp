// NormFace's layers at the sizes of real nets: see real_sizes_test.hpp.

#include <string>
#include <vector>

#include "real_sizes_test.hpp"

namespace caffe {

TYPED_TEST_CASE(RealSizesTest, TestDtypes);

static const char* const kClasses = "num_output: 10572 weight_filler { type: 'gaussian' std: 0.05 } ";

TYPED_TEST(RealSizesTest, Normalize) {
  const int rows[] = {256, 70000}, channels[] = {512, 33};
  const char* const options[] = {"", "normalize_type: 'L1'", "bp_norm: true", "fix_gradient: true"};
  for (int o = 0; o < 4; ++o) {
    const string text = string("type: 'Normalize' normalize_param { ") + options[o] + " }";
    for (int r = 0; r < 2; ++r) {
      this->Check(text, {Numbers({rows[r], channels[r]})}, o == 2 ? 2 : 1);
    }
    this->Check(text, {Numbers({8, 512, 33, 31})}, o == 2 ? 2 : 1);
  }
}

TYPED_TEST(RealSizesTest, InnerProduct) {
  this->Check(string("type: 'InnerProduct' inner_product_param { normalize: true bias_term: false ") + kClasses + "}",
      {Numbers({256, 512})});
  this->Check("type: 'InnerProduct' inner_product_param { normalize: true num_output: 70000 "
      "weight_filler { type: 'gaussian_unitball' } bias_filler { type: 'gaussian' } }", {Numbers({16, 33})});
  this->Check("type: 'InnerProduct' inner_product_param { bias_term: false }",
      {Numbers({256, 512}), Numbers({10572, 512})});
}

TYPED_TEST(RealSizesTest, Scale) {
  this->Check("type: 'Scale' scale_param { axis: 0 num_axes: 0 min_value: 1 max_value: 16 "
      "filler { type: 'constant' value: 20 } }", {Numbers({256, 10572})});
}

TYPED_TEST(RealSizesTest, InnerDistance) {
  const string type = "type: 'InnerDistance' inner_distance_param { ";
  this->Check(type + kClasses + "}", {Numbers({256, 512})});
  this->Check(type + kClasses + "normalize: true }", {Numbers({256, 512})});
  this->Check(type + "}", {Numbers({256, 512}), Numbers({10572, 512})});
  this->Check(type + kClasses + "distance_type: 'L1' }", {Numbers({33, 129})});
  this->Check(type + kClasses + "distance_type: 'L1' exact_gradient: true }", {Numbers({33, 129})});
  this->Check(type + kClasses + "update_center_only: true }", {Numbers({256, 512}), Labels(256, 10572)});
  this->Check(type + "update_center_only: true distance_type: 'L1' }",
      {Numbers({1500, 129}), Numbers({7, 129}), Labels(1500, 7)});
}

TYPED_TEST(RealSizesTest, GeneralContrastiveLoss) {
  const vector<Input> inputs = {Numbers({256, 10572}, 0, 4), Labels(256, 10572)};
  const char* const options[] = {"", "max_negative_only: true", "exp_negative_weight: true", "max_positive_only: true",
      "positive_first: true", "normalize_negative: 0.5", "add_intra_mae: true", "exact_gradient: true",
      "exp_negative_weight: true max_negative_only: true"};
  for (int o = 0; o < 9; ++o) {
    this->Check(string("type: 'GeneralContrastiveLoss' general_contrastive_loss_param { ") + options[o] + " }", inputs,
        2);
  }
  this->Check("type: 'GeneralContrastiveLoss'", {Numbers({70000, 33}, 0, 4), Labels(70000, 33)});
}

TYPED_TEST(RealSizesTest, GeneralTripletLoss) {
  const vector<Input> inputs = {Numbers({256, 10572}, 0, 4), Labels(256, 10572)};
  const char* const options[] = {"", "hardest_only: true", "positive_first: true", "exact_gradient: true",
      "add_center_loss: false margin: 0.8"};
  for (int o = 0; o < 5; ++o) {
    this->Check(string("type: 'GeneralTripletLoss' general_triplet_loss_param { ") + options[o] + " }", inputs, 2);
  }
  this->Check("type: 'GeneralTripletLoss'", {Numbers({70000, 33}, 0, 4), Labels(70000, 33)});
}

TYPED_TEST(RealSizesTest, CenterLoss) {
  const string type = "type: 'CenterLoss' center_loss_param { center_filler { type: 'gaussian' } ";
  this->Check(type + "num_output: 10572 }", {Numbers({256, 512}), Labels(256, 10572)});
  this->Check(type + "num_output: 7 }", {Numbers({1500, 129}), Labels(1500, 7)});
}

TYPED_TEST(RealSizesTest, MarginInnerProduct) {
  const string type = "type: 'MarginInnerProduct' margin_inner_product_param { type: QUADRUPLE base: 4 ";
  this->Check(type + kClasses + "}", {Numbers({256, 512}), Labels(256, 10572)});
  this->Check(type + kClasses + "exact_gradient: true }", {Numbers({256, 512}), Labels(256, 10572)});
  this->Check(type + "exact_gradient: true num_output: 7 weight_filler { type: 'gaussian' } }",
      {Numbers({1500, 129}), Labels(1500, 7)});
}

TYPED_TEST(RealSizesTest, LargeMarginInnerProduct) {
  const string type = "type: 'LargeMarginInnerProduct' largemargin_inner_product_param { type: TRIPLE base: 4 ";
  this->Check(type + kClasses + "}", {Numbers({256, 512}), Labels(256, 10572)});
  this->Check(type + "num_output: 7 weight_filler { type: 'gaussian' } }", {Numbers({1500, 129}), Labels(1500, 7)});
}

TYPED_TEST(RealSizesTest, LabelSpecific) {
  const vector<Input> inputs = {Numbers({256, 10572}), Labels(256, 10572)};
  this->Check("type: 'LabelSpecificAdd' label_specific_add_param { bias: -0.35 }", inputs);
  this->Check("type: 'LabelSpecificRescale' label_specific_rescale_param { positive_weight: 0.75 }", inputs);
  this->Check("type: 'LabelSpecificRescale' label_specific_rescale_param { positive_weight: 0.75 for_ip: true "
      "bias_fix: true }", inputs);
  const string margin = "type: 'LabelSpecificMargin' label_specific_margin_param { margin_base: 20 ";
  this->Check(margin + "}", inputs);
  this->Check(margin + "exact_gradient: false }", inputs);
}

TYPED_TEST(RealSizesTest, ChannelScale) {
  this->Check("type: 'ChannelScale'", {Numbers({256, 10572}), Numbers({256})});
  this->Check("type: 'ChannelScale'", {Numbers({70000, 33}), Numbers({70000})});
  this->Check("type: 'ChannelScale'", {Numbers({16, 512, 7, 6}), Numbers({16, 1, 7, 6})});
}

TYPED_TEST(RealSizesTest, Flip) {
  this->Check("type: 'Flip' flip_param { flip_width: true flip_height: true }", {Numbers({64, 33, 56, 47})});
}

TYPED_TEST(RealSizesTest, Accuracy) {
  this->Check("type: 'Accuracy' accuracy_param { min_is_better: true top_k: 2000 }",
      {Numbers({256, 10572}), Labels(256, 10572)}, 1, false);
}

}  // namespace caffe
