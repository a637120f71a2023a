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
#include "caffe/layers/ring_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class RingLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  RingLossLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(5, 2, 2, 2), &x_);
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
  /// Forward and Backward with the loss_weight 0.5; the gradients in x.
  void Run(Layer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    top_vec_[0]->mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  double Length(int i) const {
    double sum = 0;
    for (int k = 0; k < 8; ++k) {
      sum += x_.cpu_data()[i * 8 + k] * x_.cpu_data()[i * 8 + k];
    }
    return std::sqrt(sum);
  }
  double Loss(double radius) const {
    double loss = 0;
    for (int i = 0; i < 5; ++i) {
      loss += (Length(i) - radius) * (Length(i) - radius) / 10;
    }
    return loss;
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(RingLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(RingLossLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("ring_loss_param { radius_filler { value: 1.5 } }");
  RingLossLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  EXPECT_EQ(Dtype(1.5), layer.blobs()[0]->cpu_data()[0]);
  EXPECT_NEAR(this->Loss(1.5), this->y_.cpu_data()[0], 1e-5);
}

TYPED_TEST(RingLossLayerTest, TestRadiusOfTheFirstBatch) {
  typedef typename TypeParam::Dtype Dtype;
  double mean = 0;
  for (int i = 0; i < 5; ++i) {
    mean += this->Length(i) / 5;
  }
  this->Parse("");
  for (int train = 0; train < 2; ++train) {
    this->param_.set_phase(train ? TRAIN : TEST);
    RingLossLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_NEAR(this->Loss(mean), this->y_.cpu_data()[0], 1e-5);
    EXPECT_NEAR(train ? mean : -1, layer.blobs()[0]->cpu_data()[0], 1e-5);
  }
}

TYPED_TEST(RingLossLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("ring_loss_param { radius_filler { value: 1.5 } }");
  RingLossLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-3, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(RingLossLayerTest, TestZeroVectorAndNaN) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("ring_loss_param { radius_filler { value: 1.5 } }");
  caffe_set(8, Dtype(0), this->x_.mutable_cpu_data());
  RingLossLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  for (int k = 0; k < 8; ++k) {
    EXPECT_EQ(0, this->x_.cpu_diff()[k]);
  }
  EXPECT_NEAR(this->Loss(1.5), this->y_.cpu_data()[0], 1e-5);
  this->x_.mutable_cpu_data()[9] = std::numeric_limits<Dtype>::quiet_NaN();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NE(this->y_.cpu_data()[0], this->y_.cpu_data()[0]);
}

}  // namespace caffe
