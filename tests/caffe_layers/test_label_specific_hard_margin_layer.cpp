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
#include "caffe/layers/label_specific_hard_margin_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class LabelSpecificHardMarginLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  LabelSpecificHardMarginLayerTest() {
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

TYPED_TEST_CASE(LabelSpecificHardMarginLayerTest, TestDtypesAndDevices);

TYPED_TEST(LabelSpecificHardMarginLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("label_specific_hard_margin_param { positive_weight: 0.7 }");
  this->label_.mutable_cpu_data()[4] = -1;
  this->top_vec_.push_back(&this->report_);
  for (int in_place = 0; in_place < 2; ++in_place) {
    this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
    LabelSpecificHardMarginLayer<Dtype> layer(this->param_);
    const vector<Dtype> x = this->Scores();
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double margins = 0;
    for (int i = 0; i < 24; ++i) {
      double expected = x[i];
      if (i % 4 == this->label_.cpu_data()[i / 4]) {
        double others = 0;
        for (int j = 0; j < 4; ++j) {
          others += j == i % 4 ? 0 : x[i / 4 * 4 + j] / 3.;
        }
        expected = 0.7 * x[i] + 0.3 * others;
        margins += (expected - x[i]) / 5;
      }
      EXPECT_NEAR(expected, this->top_vec_[0]->cpu_data()[i], 1e-5);
    }
    EXPECT_NEAR(margins * 180 / 3.14159265358979, this->report_.cpu_data()[0], 1e-4);
    this->Backward(&layer);
    for (int i = 0; i < 24; ++i) {
      EXPECT_EQ(Dtype(this->Slope(i)), this->x_.cpu_diff()[i]);
    }
    caffe_copy(24, &x[0], this->x_.mutable_cpu_data());
  }
}

TYPED_TEST(LabelSpecificHardMarginLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("label_specific_hard_margin_param { positive_weight: 0.7 exact_gradient: true }");
  this->label_.mutable_cpu_data()[4] = -1;
  LabelSpecificHardMarginLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
}

TYPED_TEST(LabelSpecificHardMarginLayerTest, TestGradientInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("label_specific_hard_margin_param { positive_weight: 0.7 exact_gradient: true }");
  vector<Dtype> apart;
  for (int in_place = 0; in_place < 2; ++in_place) {
    this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
    LabelSpecificHardMarginLayer<Dtype> layer(this->param_);
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

TYPED_TEST(LabelSpecificHardMarginLayerTest, TestTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("");
  this->param_.set_phase(TEST);
  this->label_.mutable_cpu_data()[3] = 77;
  LabelSpecificHardMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(this->x_.cpu_data()[i], this->y_.cpu_data()[i]);
  }
}

}  // namespace caffe
