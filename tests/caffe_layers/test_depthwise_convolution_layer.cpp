#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/depthwise_convolution_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

static const char* kDepthwiseConvolutionCases[] = {
  "num_output: 3 kernel_size: 3",
  "num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
  "num_output: 3 kernel_size: 3 pad: 2 dilation: 2 bias_term: false group: 1",
  "num_output: 3 kernel_size: 1 stride: 2",
  "num_output: 3 kernel_h: 4 kernel_w: 3 pad: 2",
  "num_output: 6 kernel_h: 5 kernel_w: 6",
  "num_output: 3 kernel_h: 5 kernel_w: 6 pad_h: 0 pad_w: 1 stride_h: 2 stride_w: 1",
};
static const int kNumDepthwiseConvolutionCases =
    sizeof(kDepthwiseConvolutionCases) / sizeof(kDepthwiseConvolutionCases[0]);

template <typename TypeParam>
class DepthwiseConvolutionLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  DepthwiseConvolutionLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(2, 3, 5, 6), &x_);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&y_);
  }

  void Parse(const string& text) {
    param_.Clear();
    param_.set_phase(TRAIN);
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param_));
  }

  void Fill(const vector<int>& shape, Blob<Dtype>* blob, double std = 1) {
    blob->Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_std(std);
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(blob);
  }
  static vector<int> Shape(int a, int b, int c = 0, int d = 0) {
    vector<int> shape(1, a);
    shape.push_back(b);
    if (c) {
      shape.push_back(c);
      shape.push_back(d);
    }
    return shape;
  }
  void SetLabels(const int* labels, int count) {
    label_.Reshape(vector<int>(1, count));
    std::copy(labels, labels + count, label_.mutable_cpu_data());
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(DepthwiseConvolutionLayerTest, TestDtypesAndDevices);

TYPED_TEST(DepthwiseConvolutionLayerTest, TestAsAConvolutionInGroups) {
  typedef typename TypeParam::Dtype Dtype;
  for (int trial = 0; trial < 2 * kNumDepthwiseConvolutionCases; ++trial) {
    const int k = trial / 2;
    this->Fill(this->Shape(trial % 2 ? 67 : 2, 3, 5, 6), &this->x_);  // the GPU shares out the larger batch
    this->Parse(string("convolution_param { ") + kDepthwiseConvolutionCases[k] + " weight_filler { type: 'gaussian' } "
        "bias_filler { type: 'gaussian' } }");
    DepthwiseConvolutionLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(1, layer.blobs()[0]->shape(1));
    this->param_.mutable_convolution_param()->set_group(3);
    ConvolutionLayer<Dtype> plain(this->param_);
    Blob<Dtype> y, x;
    x.CopyFrom(this->x_, false, true);
    vector<Blob<Dtype>*> bottom(1, &x), top(1, &y);
    plain.SetUp(bottom, top);
    for (int b = 0; b < layer.blobs().size(); ++b) {
      plain.blobs()[b]->CopyFrom(*layer.blobs()[b]);
      caffe_set(layer.blobs()[b]->count(), Dtype(1), layer.blobs()[b]->mutable_cpu_diff());
      caffe_set(layer.blobs()[b]->count(), Dtype(1), plain.blobs()[b]->mutable_cpu_diff());
    }
    layer.Forward(this->bottom_vec_, this->top_vec_);
    plain.Forward(bottom, top);
    ASSERT_EQ(y.shape(), this->y_.shape());
    for (int i = 0; i < y.count(); ++i) {
      EXPECT_NEAR(y.cpu_data()[i], this->y_.cpu_data()[i], 1e-4) << kDepthwiseConvolutionCases[k];
      y.mutable_cpu_diff()[i] = this->y_.mutable_cpu_diff()[i] = (i * 5 % 7) - Dtype(2.5);
    }
    layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
    plain.Backward(top, vector<bool>(1, true), bottom);
    for (int i = 0; i < x.count(); ++i) {
      EXPECT_NEAR(x.cpu_diff()[i], this->x_.cpu_diff()[i], 1e-4) << kDepthwiseConvolutionCases[k];
    }
    for (int b = 0; b < layer.blobs().size(); ++b) {
      for (int i = 0; i < layer.blobs()[b]->count(); ++i) {
        EXPECT_NEAR(plain.blobs()[b]->cpu_diff()[i], layer.blobs()[b]->cpu_diff()[i], 1e-3)
            << kDepthwiseConvolutionCases[k];
      }
    }
  }
}

TYPED_TEST(DepthwiseConvolutionLayerTest, TestFormula) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: 'gaussian' } }");
  DepthwiseConvolutionLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  const Dtype* w = layer.blobs()[0]->cpu_data() + 9;  // of channel 1
  double sum = 0;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      sum += w[i * 3 + j] * this->x_.data_at(1, 1, 2 + i - 1, 3 + j - 1);
    }
  }
  EXPECT_NEAR(sum, this->y_.data_at(1, 1, 2, 3), 1e-4);
}

TYPED_TEST(DepthwiseConvolutionLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("convolution_param { num_output: 6 kernel_size: 2 stride: 2 pad: 1 weight_filler { type: 'gaussian' } }");
  DepthwiseConvolutionLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(DepthwiseConvolutionLayerTest, TestRefused) {
  typedef typename TypeParam::Dtype Dtype;
  if (Caffe::mode() == Caffe::GPU) {
    return;
  }
  this->Parse("convolution_param { num_output: 4 kernel_size: 3 }");
  DepthwiseConvolutionLayer<Dtype> layer(this->param_);
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "expected a num_output that is a multiple of the bottom's 3 channels, got 4");
}

}  // namespace caffe
