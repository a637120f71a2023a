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
#include "caffe/layers/label_specific_affine_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class LabelSpecificAffineLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  LabelSpecificAffineLayerTest() {
    Caffe::set_random_seed(1701);
    vector<int> shape(2);
    shape[0] = 6;
    shape[1] = 4;
    x_.Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_min(-0.94);
    filler_param.set_max(0.94);
    UniformFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    label_.Reshape(vector<int>(1, 6));
    for (int i = 0; i < 6; ++i) {
      label_.mutable_cpu_data()[i] = i * i % 4;
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
  void Backward(Layer<Dtype>* layer) {
    for (int i = 0; i < top_vec_[0]->count(); ++i) {
      top_vec_[0]->mutable_cpu_diff()[i] = Slope(i);
    }
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }
  static double Slope(int i) { return (i * 5 % 7) - 2.5; }

  vector<Dtype> Scores() const { return vector<Dtype>(x_.cpu_data(), x_.cpu_data() + x_.count()); }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(LabelSpecificAffineLayerTest, TestDtypesAndDevices);

TYPED_TEST(LabelSpecificAffineLayerTest, TestForwardAndGradient) {
  typedef typename TypeParam::Dtype Dtype;
  const string bounds = "scale_min: 0 scale_max: 9 bias_min: -9 bias_max: 9 power_min: 0 power_max: 9 ";
  const char* cases[] = {"", "scale_base: 0.8 bias_base: -0.2", "power_base: 1.5 scale_base: 2",
      "scale_base: 0.5 scale_gamma: 0.5 scale_power: 2 bias_gamma: 0.1 power_gamma: 1 power_base: 3 iteration: 2"};
  const double scale[] = {1, 0.8, 2, 0.5 * 4}, bias[] = {0, -0.2, 0, 0.2}, power[] = {1, 1, 1.5, 1};
  this->label_.mutable_cpu_data()[4] = -1;
  this->top_vec_.push_back(&this->report_);
  for (int k = 0; k < 4; ++k) {
    this->Parse("label_specific_affine_param { " + bounds + cases[k] + " }");
    LabelSpecificAffineLayer<Dtype> layer(this->param_);
    const vector<Dtype> x = this->Scores();
    this->top_vec_[0] = k % 2 ? &this->x_ : &this->y_;
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->Backward(&layer);
    EXPECT_NEAR(scale[k], this->report_.cpu_data()[0], 1e-5);
    EXPECT_NEAR(bias[k], this->report_.cpu_data()[1], 1e-5);
    EXPECT_NEAR(power[k], this->report_.cpu_data()[2], 1e-5);
    for (int i = 0; i < 24; ++i) {
      double y = x[i], slope = 1;
      if (i % 4 == this->label_.cpu_data()[i / 4] && x[i] > 0) {
        y = scale[k] * std::pow(x[i], power[k]);
        slope = scale[k] * power[k] * std::pow(x[i], power[k] - 1);
        y += y > -bias[k] ? bias[k] : 0;
      }
      EXPECT_NEAR(y, this->top_vec_[0]->cpu_data()[i], 1e-5) << cases[k];
      EXPECT_NEAR(slope * this->Slope(i), this->x_.cpu_diff()[i], 1e-4) << cases[k];
    }
    caffe_copy(24, &x[0], this->x_.mutable_cpu_data());
  }
}

TYPED_TEST(LabelSpecificAffineLayerTest, TestDefaultBoundsAndPassedGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("label_specific_affine_param { scale_base: 3 bias_base: 2 power_base: 4 scale_max: 2 "
      "original_bp: true }");
  this->top_vec_.push_back(&this->report_);
  LabelSpecificAffineLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(2, this->report_.cpu_data()[0]);
  EXPECT_EQ(0, this->report_.cpu_data()[1]);
  EXPECT_EQ(1, this->report_.cpu_data()[2]);
  this->Backward(&layer);
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(Dtype(this->Slope(i)), this->x_.cpu_diff()[i]);
  }
}

TYPED_TEST(LabelSpecificAffineLayerTest, TestTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("label_specific_affine_param { scale_max: 9 scale_base: 4 }");
  this->param_.set_phase(TEST);
  this->label_.mutable_cpu_data()[3] = 77;
  LabelSpecificAffineLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(this->x_.cpu_data()[i], this->y_.cpu_data()[i]);
  }
}

}  // namespace caffe
