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
#include "caffe/layers/norm_l2_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class NormL2LayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  NormL2LayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(2, 3, 2, 2), &x_);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&y_);
  }

  void Backward(Layer<Dtype>* layer) {
    for (int i = 0; i < top_vec_[0]->count(); ++i) {
      top_vec_[0]->mutable_cpu_diff()[i] = Slope(i);
    }
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }
  static double Slope(int i) { return (i * 5 % 7) - 2.5; }

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

TYPED_TEST_CASE(NormL2LayerTest, TestDtypesAndDevices);

TYPED_TEST(NormL2LayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int in_place = 0; in_place < 2; ++in_place) {
    const vector<Dtype> x(this->x_.cpu_data(), this->x_.cpu_data() + 24);
    this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
    NormL2Layer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < 24; ++i) {
      double sum = 1e-7;
      for (int k = 0; k < 12; ++k) {
        sum += x[i / 12 * 12 + k] * x[i / 12 * 12 + k];
      }
      EXPECT_NEAR(x[i] / std::sqrt(sum), this->top_vec_[0]->cpu_data()[i], 1e-5);
    }
  }
}

TYPED_TEST(NormL2LayerTest, TestFourAxes) {
  typedef typename TypeParam::Dtype Dtype;
  this->x_.Reshape(this->Shape(4, 6));
  NormL2Layer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("4 6 1 1 (24)", this->y_.shape_string());
}

TYPED_TEST(NormL2LayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  NormL2Layer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(NormL2LayerTest, TestGradientInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  vector<Dtype> apart;
  for (int in_place = 0; in_place < 2; ++in_place) {
    NormL2Layer<Dtype> layer(this->param_);
    this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->Backward(&layer);
    if (!in_place) {
      apart.assign(this->x_.cpu_diff(), this->x_.cpu_diff() + 24);
    }
  }
  for (int i = 0; i < 24; ++i) {
    EXPECT_NEAR(apart[i], this->x_.cpu_diff()[i], 1e-5);
  }
}

TYPED_TEST(NormL2LayerTest, TestZeroVector) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(12, Dtype(0), this->x_.mutable_cpu_data());
  NormL2Layer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->Backward(&layer);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(0, this->y_.cpu_data()[i]);
    EXPECT_NEAR(this->Slope(i) / std::sqrt(1e-7), this->x_.cpu_diff()[i], 1);
  }
}

}  // namespace caffe
