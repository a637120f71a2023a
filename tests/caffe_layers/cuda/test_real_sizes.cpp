// The layers at the sizes of real nets, on a GPU against the host: more rows than a grid has blocks, more numbers in a
// row than a block has threads, counts that no power of two divides. The layers' own tests, with formulas, are small.

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// What a layer reads: numbers between two bounds, or labels.
struct Input {
  vector<int> shape;
  double low, high;
  bool labels;
};

static Input Numbers(const vector<int>& shape, double low = -1, double high = 1) {
  return Input{shape, low, high, false};
}
static Input Labels(int count, int classes) { return Input{vector<int>(1, count), 0, double(classes), true}; }

template <typename Dtype>
class RealSizesTest : public ::testing::Test {
 protected:
  typedef vector<vector<Dtype> > Arrays;

  static void Fill(const Input& input, unsigned int seed, int count, Dtype* numbers) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(input.low, input.high);
    for (int i = 0; i < count; ++i) {
      const double number = uniform(random);
      numbers[i] = input.labels ? std::floor(number) : number;
    }
  }

  /// Everything that a pass forward and one back leave: tops, gradients of the bottoms, blobs and their gradients.
  static Arrays Pass(Caffe::Brew mode, const LayerParameter& param, const vector<Input>& inputs, int tops,
      bool backward) {
    Caffe::set_mode(mode);
    Caffe::set_random_seed(1701);  // fillers draw on the host in both modes
    vector<shared_ptr<Blob<Dtype> > > blobs(inputs.size() + tops);
    vector<Blob<Dtype>*> bottom, top;
    vector<bool> propagate;
    for (size_t i = 0; i < blobs.size(); ++i) {
      blobs[i].reset(new Blob<Dtype>());
      (i < inputs.size() ? bottom : top).push_back(blobs[i].get());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      bottom[i]->Reshape(inputs[i].shape);
      Fill(inputs[i], i, bottom[i]->count(), bottom[i]->mutable_cpu_data());
      propagate.push_back(!inputs[i].labels);
    }
    shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
    layer->SetUp(bottom, top);
    layer->Forward(bottom, top);
    Arrays arrays;
    for (int t = 0; t < tops; ++t) {
      arrays.push_back(vector<Dtype>(top[t]->cpu_data(), top[t]->cpu_data() + top[t]->count()));
      if (layer->loss(t) == 0) {  // of a loss it is the weight
        Fill(Numbers(top[t]->shape()), 100 + t, top[t]->count(), top[t]->mutable_cpu_diff());
      }
    }
    if (!backward) {
      return arrays;
    }
    for (size_t b = 0; b < layer->blobs().size(); ++b) {
      Blob<Dtype>* blob = layer->blobs()[b].get();
      Fill(Numbers(blob->shape()), 200 + b, blob->count(), blob->mutable_cpu_diff());  // gradients add up
    }
    layer->Backward(top, propagate, bottom);
    for (size_t i = 0; i < bottom.size(); ++i) {
      if (propagate[i]) {
        arrays.push_back(vector<Dtype>(bottom[i]->cpu_diff(), bottom[i]->cpu_diff() + bottom[i]->count()));
      }
    }
    for (size_t b = 0; b < layer->blobs().size(); ++b) {
      const Blob<Dtype>& blob = *layer->blobs()[b];
      arrays.push_back(vector<Dtype>(blob.cpu_data(), blob.cpu_data() + blob.count()));
      arrays.push_back(vector<Dtype>(blob.cpu_diff(), blob.cpu_diff() + blob.count()));
    }
    return arrays;
  }

  /// Within 2e-5 (float) or 1e-12 (double) of each array's largest number: both sum up to 70,000 of them, in other
  /// orders.
  static void Check(const string& text, const vector<Input>& inputs, int tops = 1, bool backward = true) {
    SCOPED_TRACE(text);
    LayerParameter param;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &param));
    param.set_name("layer");
    param.set_phase(TRAIN);
    for (size_t i = 0; i < inputs.size(); ++i) {
      param.add_bottom();  // InnerProduct is ours if it has several
    }
    const Arrays host = Pass(Caffe::CPU, param, inputs, tops, backward);
    const Arrays device = Pass(Caffe::GPU, param, inputs, tops, backward);
    const double tolerance = sizeof(Dtype) == 4 ? 2e-5 : 1e-12;
    ASSERT_EQ(host.size(), device.size());
    for (size_t a = 0; a < host.size(); ++a) {
      double largest = 0, apart = 0;
      ASSERT_EQ(host[a].size(), device[a].size());
      for (size_t i = 0; i < host[a].size(); ++i) {
        const double difference = std::abs(double(host[a][i]) - double(device[a][i]));
        largest = std::max(largest, std::abs(double(host[a][i])));
        if (difference > apart || std::isnan(difference)) {
          apart = difference;  // a NaN stays, and is not less than anything
        }
      }
      EXPECT_GT(largest, 0) << "array " << a;
      EXPECT_LE(apart, tolerance * largest) << "array " << a << " of " << host[a].size() << " numbers";
    }
  }
};

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
