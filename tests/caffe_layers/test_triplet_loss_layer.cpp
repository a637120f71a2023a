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
#include "caffe/layers/triplet_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class TripletLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  TripletLossLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(6, 4), &x_);
    Fill(Shape(6, 4), &p_);
    Fill(Shape(6, 4), &n_);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&p_);
    bottom_vec_.push_back(&n_);
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

  Blob<Dtype> p_, n_;

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(TripletLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(TripletLossLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("triplet_loss_param { margin: 0.7 }");
  TripletLossLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  double loss = 0;
  int above = 0;
  for (int i = 0; i < 6; ++i) {
    double term = 0.7;
    for (int k = 0; k < 4; ++k) {
      const double near = this->x_.cpu_data()[i * 4 + k] - this->p_.cpu_data()[i * 4 + k];
      const double far = this->x_.cpu_data()[i * 4 + k] - this->n_.cpu_data()[i * 4 + k];
      term += near * near - far * far;
    }
    above += term > 0;
    loss += std::max(term, 0.) / 12;
  }
  EXPECT_GT(above, 0);
  EXPECT_LT(above, 6);
  EXPECT_EQ(0, this->y_.num_axes());
  EXPECT_NEAR(loss, this->y_.cpu_data()[0], 1e-4);
}

TYPED_TEST(TripletLossLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("triplet_loss_param { margin: 0.7 }");
  TripletLossLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-3, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(TripletLossLayerTest, TestNaNIsTheLoss) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("");
  for (int b = 0; b < 3; ++b) {
    TripletLossLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    const Dtype before = this->bottom_vec_[b]->cpu_data()[5];
    this->bottom_vec_[b]->mutable_cpu_data()[5] = std::numeric_limits<Dtype>::quiet_NaN();
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_NE(this->y_.cpu_data()[0], this->y_.cpu_data()[0]);
    this->bottom_vec_[b]->mutable_cpu_data()[5] = before;
  }
}

}  // namespace caffe
