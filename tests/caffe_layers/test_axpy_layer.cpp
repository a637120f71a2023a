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
#include "caffe/layers/axpy_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class AxpyLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  AxpyLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(2, 3, 1, 1), &a_);
    Fill(Shape(2, 3, 2, 3), &x_);
    Fill(Shape(2, 3, 2, 3), &b_);
    bottom_vec_.push_back(&a_);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&b_);
    top_vec_.push_back(&y_);
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
  static double Slope(int i) { return (i * 5 % 7) - 2.5; }

  Blob<Dtype> a_, b_;

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(AxpyLayerTest, TestDtypesAndDevices);

TYPED_TEST(AxpyLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int in_place = 0; in_place < 2; ++in_place) {
    AxpyLayer<Dtype> layer(this->param_);
    this->top_vec_[0] = in_place ? &this->b_ : &this->y_;
    const vector<Dtype> b(this->b_.cpu_data(), this->b_.cpu_data() + this->b_.count());
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < 36; ++i) {
      EXPECT_NEAR(this->a_.cpu_data()[i / 6] * this->x_.cpu_data()[i] + b[i], this->top_vec_[0]->cpu_data()[i], 1e-5);
    }
    for (int i = 0; i < 36; ++i) {
      this->top_vec_[0]->mutable_cpu_diff()[i] = this->Slope(i);
    }
    layer.Backward(this->top_vec_, vector<bool>(3, true), this->bottom_vec_);
    for (int i = 0; i < 6; ++i) {
      double sum = 0;
      for (int k = 0; k < 6; ++k) {
        sum += this->Slope(i * 6 + k) * this->x_.cpu_data()[i * 6 + k];
        EXPECT_NEAR(this->a_.cpu_data()[i] * this->Slope(i * 6 + k), this->x_.cpu_diff()[i * 6 + k], 1e-5);
        EXPECT_NEAR(this->Slope(i * 6 + k), this->b_.cpu_diff()[i * 6 + k], 1e-6);
      }
      EXPECT_NEAR(sum, this->a_.cpu_diff()[i], 1e-4);
    }
  }
}

TYPED_TEST(AxpyLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  AxpyLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(AxpyLayerTest, TestScaleOfTwoAxesAndZero) {
  typedef typename TypeParam::Dtype Dtype;
  this->a_.Reshape(this->Shape(2, 3));
  caffe_set(6, Dtype(0), this->a_.mutable_cpu_data());
  AxpyLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 36; ++i) {
    EXPECT_EQ(this->b_.cpu_data()[i], this->y_.cpu_data()[i]);
  }
}

TYPED_TEST(AxpyLayerTest, TestRefused) {
  typedef typename TypeParam::Dtype Dtype;
  if (Caffe::mode() == Caffe::GPU) {
    return;
  }
  AxpyLayer<Dtype> layer(this->param_);
  this->a_.Reshape(this->Shape(2, 4));
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_), "expected a number for each channel of bottom 1");
  this->a_.Reshape(this->Shape(2, 3));
  this->top_vec_[0] = &this->x_;
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_), "the top may be bottom 2 itself");
}

}  // namespace caffe
