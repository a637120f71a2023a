// What layer_speed_gpu.cpp times: each layer with a kernel of its own, at a size of a real net. 85,742 classes are
// those of MS1M as ArcFace has it, 10,572 those of CASIA-WebFace.
#ifndef NORMFACE_BENCHMARKS_LAYER_SPEED_GPU_CASES_HPP_
#define NORMFACE_BENCHMARKS_LAYER_SPEED_GPU_CASES_HPP_

#include <string>
#include <vector>

/// A bottom: uniform numbers between two bounds, or labels below `high`.
struct Input {
  std::vector<int> shape;
  double low, high;
  bool labels;
  bool forward_reads, backward_reads;  // all of it, by necessity
};

/// Numbers that both passes have to read, the forward pass alone, or neither.
inline Input Both(const std::vector<int>& shape, double low = -1, double high = 1) {
  return Input{shape, low, high, false, true, true};
}
inline Input Once(const std::vector<int>& shape, double low = -1, double high = 1) {
  return Input{shape, low, high, false, true, false};
}
inline Input Part(const std::vector<int>& shape, double low = -1, double high = 1) {
  return Input{shape, low, high, false, false, false};
}
inline Input Labels(int count, int classes) {
  return Input{std::vector<int>(1, count), 0, double(classes), true, true, true};
}

enum Yardstick {
  COPY,     // the device's copy of as many bytes as the layer has to read and write
  PRODUCT,  // cuBLAS's products of the rows and the weight: one forward, two back
  LAYER,    // a layer that Caffe has without us
};

struct Case {
  std::string name, text;
  std::vector<Input> bottoms;
  Yardstick yardstick;
  double forward_limit, backward_limit;  // claims: at most so many times the yardstick's time; 0 for no such pass
  std::string other;  // LAYER: its text and bottoms
  std::vector<Input> other_bottoms;
  int products;       // PRODUCT: those of the backward pass
  bool reads_tops;    // COPY: whether the backward pass has to read the tops
};

inline std::vector<Case> Cases() {
  const std::vector<int> rows = {65536, 512}, features = {256, 512}, large_maps = {256, 512, 14, 12},
      small_maps = {256, 512, 7, 6}, scores = {256, 85742};
  const Input labels = Labels(256, 85742), few = Labels(256, 10572);
  const std::string unit = "weight_filler { type: 'uniform' min: -0.05 max: 0.05 } ",
      large = "num_output: 85742 " + unit,
      medium = "num_output: 10572 " + unit, product = "type: 'InnerProduct' inner_product_param { bias_term: false ",
      distance = "type: 'InnerDistance' inner_distance_param { ", euclidean = "type: 'EuclideanLoss'",
      one_scale = "type: 'Scale' scale_param { axis: 0 num_axes: 0 filler { type: 'constant' value: 20 } ";
  std::vector<Case> cases;
  // Against the memory's speed.
  const auto copy = [&](const std::string& name, const std::string& text, const std::vector<Input>& bottoms,
      double forward_limit = 1.5, double backward_limit = 1.5, bool reads_tops = false) {
    cases.push_back(Case{name, text, bottoms, COPY, forward_limit, backward_limit, "", {}, 0, reads_tops});
  };
  copy("Normalize rows", "type: 'Normalize'", {Once(rows)}, 1.5, 1.5, true);
  copy("Normalize maps 14x12", "type: 'Normalize'", {Once(large_maps)}, 1.5, 1.5, true);
  copy("Normalize maps 7x6", "type: 'Normalize'", {Once(small_maps)}, 1.5, 1.5, true);
  copy("Normalize 256 rows", "type: 'Normalize'", {Once(features)}, 3, 3, true);
  copy("NormL2 rows", "type: 'NormL2'", {Once(rows)}, 1.5, 1.5, true);
  copy("Flip", "type: 'Flip'", {Once({256, 64, 56, 48})});
  copy("Axpy", "type: 'Axpy'", {Both({64, 256, 1, 1}), Both({64, 256, 56, 56}), Once({64, 256, 56, 56})});
  copy("ChannelScale maps", "type: 'ChannelScale'", {Both(large_maps), Both({256, 1, 14, 12})});
  copy("ChannelScale rows", "type: 'ChannelScale'", {Both(scores), Both({256})});
  copy("DepthwiseConvolution 3x3", "type: 'DepthwiseConvolution' convolution_param { num_output: 128 kernel_size: 3 "
      "pad: 1 bias_term: false " + unit + "}", {Both({128, 128, 56, 48})}, 2, 3);
  copy("DepthwiseConvolution 3x3 / 2", "type: 'DepthwiseConvolution' convolution_param { num_output: 128 "
      "kernel_size: 3 pad: 1 stride: 2 bias_term: false " + unit + "}", {Both({128, 128, 56, 48})}, 2, 3);
  copy("DepthwiseConvolution 7x6", "type: 'DepthwiseConvolution' convolution_param { num_output: 512 kernel_h: 7 "
      "kernel_w: 6 bias_term: false " + unit + "}", {Both({256, 512, 7, 6})}, 2, 3);
  copy("LabelSpecificAdd", "type: 'LabelSpecificAdd' label_specific_add_param { bias: -0.35 }", {Once(scores), labels});
  copy("LabelSpecificRescale", "type: 'LabelSpecificRescale' label_specific_rescale_param { positive_weight: 0.75 }",
      {Once(scores), labels});
  copy("LabelSpecificMargin", "type: 'LabelSpecificMargin' label_specific_margin_param { margin_base: 20 }",
      {Once(scores), labels});
  copy("LabelSpecificAffine", "type: 'LabelSpecificAffine' label_specific_affine_param { scale_base: 0.9 "
      "scale_min: 0.5 power_base: 1.2 power_max: 2 }", {Once(scores), labels});
  copy("LabelSpecificHardMargin", "type: 'LabelSpecificHardMargin'", {Once(scores), labels});
  copy("CosinAddm", "type: 'CosinAddm'", {Once(scores), labels});
  copy("CosinAddm t (SV-X)", "type: 'CosinAddm' cosin_add_m_param { t: 1.2 }", {Both(scores), labels});
  copy("Arcface", "type: 'Arcface'", {Once(scores), labels});
  copy("CombinedMargin", "type: 'CombinedMargin' combined_margin_param { m1: 1 m2: 0.3 m3: 0.2 }",
      {Once(scores), labels});
  copy("AdaCosAddmScale", "type: 'AdaCosAddmScale'", {Once(scores), labels}, 2.5);  // the scale needs all of them first
  copy("RadialRemovalMargin", "type: 'RadialRemovalMargin'", {Both(scores), labels});
  copy("NoiseTolerantFR", "type: 'NoiseTolerantFR'", {Once(scores), Part(scores), labels});
  copy("GeneralContrastiveLoss", "type: 'GeneralContrastiveLoss'", {Both(scores, 0, 4), labels});
  copy("GeneralTripletLoss", "type: 'GeneralTripletLoss'", {Both(scores, 0, 4), labels});
  // Against cuBLAS.
  const auto against_product = [&](const std::string& name, const std::string& text,
      const std::vector<Input>& bottoms, double limit = 1.5, int products = 2) {
    cases.push_back(Case{name, text, bottoms, PRODUCT, limit, limit, "", {}, products, false});
  };
  against_product("InnerDistance 10572", distance + medium + "}", {Both(features)});
  against_product("InnerDistance 85742", distance + large + "}", {Both(features)});
  against_product("InnerDistance normalize", distance + medium + "normalize: true }", {Both(features)});
  against_product("InnerDistance center only", distance + medium + "update_center_only: true }",
      {Both(features), few}, 1.5, 1);
  against_product("InnerDistance L1", distance + medium + "distance_type: 'L1' }", {Both(features)}, 4);
  against_product("MarginInnerProduct", "type: 'MarginInnerProduct' margin_inner_product_param { type: QUADRUPLE "
      "base: 4 " + medium + "}", {Both(features), few});
  against_product("LargeMarginInnerProduct", "type: 'LargeMarginInnerProduct' largemargin_inner_product_param { "
      "type: QUADRUPLE base: 4 " + medium + "}", {Both(features), few});
  against_product("InnerProduct, two bottoms", product + "}", {Both(features), Both({10572, 512})}, 1.15);
  // Against Caffe's own.
  const auto against_layer = [&](const std::string& name, const std::string& text, const std::string& other,
      const std::vector<Input>& bottoms, const std::vector<Input>& other_bottoms, double limit, bool backward = true) {
    cases.push_back(Case{name, text, bottoms, LAYER, limit, backward ? limit : 0, other, other_bottoms, 0, false});
  };
  const Input x = Both(features), s = Both(scores);
  against_layer("InnerProduct normalize 10572", product + "normalize: true " + medium + "}", product + medium + "}",
      {x}, {x}, 1.15);
  against_layer("InnerProduct normalize 85742", product + "normalize: true " + large + "}", product + large + "}", {x},
      {x}, 1.15);
  against_layer("Scale with bounds", one_scale + "min_value: 1 max_value: 64 }", one_scale + "}", {s}, {s}, 1.1);
  against_layer("GlobalLSEMargin / Scale", "type: 'GlobalLSEMargin' scale_param { min_value: 1 max_value: 64 "
      "filler { type: 'constant' value: 20 } }", one_scale + "}", {s, labels}, {s}, 2);
  against_layer("FocalLoss / SoftmaxWithLoss", "type: 'FocalLoss'", "type: 'SoftmaxWithLoss'", {s, labels},
      {s, labels}, 1.1);
  against_layer("CenterLoss / EuclideanLoss", "type: 'CenterLoss' center_loss_param { num_output: 10572 "
      "center_filler { type: 'uniform' min: -1 max: 1 } }", euclidean, {x, few}, {x, x}, 2);
  against_layer("RingLoss / EuclideanLoss", "type: 'RingLoss' ring_loss_param { radius_filler { type: 'constant' "
      "value: 20 } }", euclidean, {x}, {x, x}, 2);
  against_layer("TripletLoss / EuclideanLoss", "type: 'TripletLoss'", euclidean, {x, x, x}, {x, x}, 2);
  against_layer("InterClass / EuclideanLoss", "type: 'InterClass' inter_class_param { " + medium + "}", euclidean,
      {x, few}, {x, x}, 3);
  against_layer("Accuracy of distances", "type: 'Accuracy' accuracy_param { min_is_better: true }", "type: 'Accuracy'",
      {s, labels}, {s, labels}, 1.1, false);
  return cases;
}

#endif  // NORMFACE_BENCHMARKS_LAYER_SPEED_GPU_CASES_HPP_
