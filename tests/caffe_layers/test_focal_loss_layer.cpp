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
#include "caffe/layers/focal_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class FocalLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FocalLossLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(3, 5, 2, 2), &x_, 2);
    label_.Reshape(vector<int>(1, 12));
    for (int i = 0; i < 12; ++i) {
      label_.mutable_cpu_data()[i] = i % 5;
    }
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
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
  /// Forward and Backward with the loss_weight 0.5; the gradients in x.
  void Run(Layer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    top_vec_[0]->mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FocalLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(FocalLossLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  const double gammas[] = {2, 2, 0, 0.5, 3};
  const char* cases[] = {"", "focal_loss_param { type: ONEADDP }", "focal_loss_param { gamma: 0 }",
      "focal_loss_param { gamma: 0.5 } loss_param { normalization: FULL }",
      "focal_loss_param { type: ONEADDP gamma: 3 } loss_param { normalization: BATCH_SIZE ignore_label: 2 }"};
  const double divisors[] = {10, 10, 10, 12, 3};
  this->label_.mutable_cpu_data()[1] = this->label_.mutable_cpu_data()[7] = -1;
  this->top_vec_.push_back(&this->report_);
  for (int k = 0; k < 5; ++k) {
    this->Parse(cases[k]);
    FocalLossLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double loss = 0;
    for (int i = 0; i < 12; ++i) {
      const int y = this->label_.cpu_data()[i];
      if (y < 0 || (k == 4 && y == 2)) {
        continue;
      }
      double sum = 0;
      for (int c = 0; c < 5; ++c) {
        sum += std::exp(static_cast<double>(this->x_.cpu_data()[(i / 4 * 5 + c) * 4 + i % 4]));
      }
      const double p = std::exp(static_cast<double>(this->x_.cpu_data()[(i / 4 * 5 + y) * 4 + i % 4])) / sum;
      loss -= std::pow(k == 1 || k == 4 ? 1 + p : 1 - p, gammas[k]) * std::log(p);
      EXPECT_NEAR(p, this->report_.cpu_data()[(i / 4 * 5 + y) * 4 + i % 4], 1e-5);
    }
    EXPECT_NEAR(loss / divisors[k], this->y_.cpu_data()[0], 1e-4) << cases[k];
  }
}

TYPED_TEST(FocalLossLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  const char* cases[] = {"", "focal_loss_param { type: ONEADDP gamma: 1.5 }", "loss_param { ignore_label: 2 }"};
  this->label_.mutable_cpu_data()[1] = -1;
  for (int k = 0; k < 3; ++k) {
    this->Parse(cases[k]);
    FocalLossLayer<Dtype> layer(this->param_);
    GradientChecker<Dtype> checker(1e-2, 1e-2);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(FocalLossLayerTest, TestCertainScoresAndNaN) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("focal_loss_param { gamma: 0.5 }");
  caffe_set(60, Dtype(0), this->x_.mutable_cpu_data());
  for (int i = 0; i < 12; ++i) {
    this->x_.mutable_cpu_data()[(i / 4 * 5 + i % 5) * 4 + i % 4] = i % 2 ? 200 : -200;
  }
  FocalLossLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  EXPECT_LT(std::abs(this->y_.cpu_data()[0]), 1e3);
  for (int i = 0; i < 60; ++i) {
    EXPECT_LT(std::abs(this->x_.cpu_diff()[i]), 1e3);
  }
  this->x_.mutable_cpu_data()[3] = std::numeric_limits<Dtype>::quiet_NaN();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NE(this->y_.cpu_data()[0], this->y_.cpu_data()[0]);
}

TYPED_TEST(FocalLossLayerTest, TestRefused) {
  typedef typename TypeParam::Dtype Dtype;
  if (Caffe::mode() == Caffe::GPU) {
    return;
  }
  this->Parse("focal_loss_param { type: LINEAR }");
  FocalLossLayer<Dtype> linear(this->param_);
  EXPECT_DEATH(linear.SetUp(this->bottom_vec_, this->top_vec_), "type LINEAR is not supported");
  this->Parse("");
  FocalLossLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->label_.mutable_cpu_data()[2] = 5;
  EXPECT_DEATH(layer.Forward(this->bottom_vec_, this->top_vec_), "label 5 of position 2 is out of range");
}

}  // namespace caffe
