#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/label_specific_add_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class LabelSpecificAddLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  LabelSpecificAddLayerTest() {
    Caffe::set_random_seed(1701);
    param_.set_phase(TRAIN);
    Fill(6, 4, 1);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  /// Scores on both sides of 0.35, at least 0.05 away from it; labels with some twice.
  void Fill(int samples, int classes, int width) {
    vector<int> shape(2);
    shape[0] = samples;
    shape[1] = classes;
    if (width > 1) {
      shape.push_back(1);
      shape.push_back(width);
    }
    x_.Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_min(-1);
    filler_param.set_max(1);
    UniformFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    for (int i = 0; i < x_.count(); ++i) {
      if (std::abs(x_.cpu_data()[i] - 0.35) < 0.05) {
        x_.mutable_cpu_data()[i] = i % 2 ? 0.25 : 0.45;
      }
    }
    label_.Reshape(vector<int>(1, samples));
    for (int i = 0; i < samples; ++i) {
      label_.mutable_cpu_data()[i] = i * i % classes;
    }
    x_.mutable_cpu_data()[static_cast<int>(label_.cpu_data()[0]) * width] = 0.75;
    if (samples > 1) {
      x_.mutable_cpu_data()[(classes + static_cast<int>(label_.cpu_data()[1])) * width] = -0.75;
    }
  }

  /// What was in x before the layer ran (in place it is gone afterwards).
  vector<Dtype> Scores() const { return vector<Dtype>(x_.cpu_data(), x_.cpu_data() + x_.count()); }

  void ExpectAdded(const vector<Dtype>& x, double bias) {
    const int classes = x_.shape(1), width = x_.count(2);
    for (int i = 0; i < x_.shape(0); ++i) {
      for (int j = 0; j < classes; ++j) {
        for (int p = 0; p < width; ++p) {
          const int at = (i * classes + j) * width + p;
          const bool added = j == label_.cpu_data()[i] && x[at] > -bias;
          EXPECT_NEAR(x[at] + (added ? bias : 0.), top_vec_[0]->cpu_data()[at], 1e-6) << i << " " << j << " " << p;
        }
      }
    }
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, bias_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(LabelSpecificAddLayerTest, TestDtypesAndDevices);

TYPED_TEST(LabelSpecificAddLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  const double biases[] = {-0.35, 0.25, 0};
  for (int b = 0; b < 3; ++b) {
    this->param_.mutable_label_specific_add_param()->set_bias(biases[b]);
    LabelSpecificAddLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    const vector<Dtype> x = this->Scores();
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectAdded(x, biases[b]);
    }
  }
}

TYPED_TEST(LabelSpecificAddLayerTest, TestForwardPositions) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(5, 3, 7);
  this->param_.mutable_label_specific_add_param()->set_bias(-0.35);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(this->x_.shape(), this->y_.shape());
  this->ExpectAdded(this->Scores(), -0.35);
}

TYPED_TEST(LabelSpecificAddLayerTest, TestOneSampleOneClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(1, 1, 1);
  this->param_.mutable_label_specific_add_param()->set_bias(-0.35);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NEAR(0.4, this->y_.cpu_data()[0], 1e-6);
}

TYPED_TEST(LabelSpecificAddLayerTest, TestInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_label_specific_add_param()->set_bias(-0.35);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  this->top_vec_[0] = &this->x_;
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const vector<Dtype> x = this->Scores();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectAdded(x, -0.35);
  caffe_set(this->x_.count(), Dtype(3), this->x_.mutable_cpu_diff());
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
  for (int i = 0; i < this->x_.count(); ++i) {
    EXPECT_EQ(3, this->x_.cpu_diff()[i]);
  }
}

TYPED_TEST(LabelSpecificAddLayerTest, TestSamplesWithoutAClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_label_specific_add_param()->set_bias(0.25);
  this->label_.mutable_cpu_data()[0] = this->label_.mutable_cpu_data()[4] = -1;
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectAdded(this->Scores(), 0.25);
}

TYPED_TEST(LabelSpecificAddLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_label_specific_add_param()->set_bias(-0.35);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
}

TYPED_TEST(LabelSpecificAddLayerTest, TestPhases) {
  typedef typename TypeParam::Dtype Dtype;
  LabelSpecificAddParameter* add = this->param_.mutable_label_specific_add_param();
  add->set_bias(-0.35);
  add->set_bias_base(-0.5);  // of no effect in TEST
  this->param_.set_phase(TEST);
  this->top_vec_.push_back(&this->bias_);
  for (int acts = 0; acts < 2; ++acts) {
    add->set_transform_test(acts);
    this->label_.mutable_cpu_data()[5] = acts ? 2 : -1;  // nothing looks at it unless the layer acts
    LabelSpecificAddLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectAdded(this->Scores(), acts ? -0.35 : 0);
    EXPECT_NEAR(-0.35, this->bias_.cpu_data()[0], 1e-6);
  }
}

TYPED_TEST(LabelSpecificAddLayerTest, TestSchedule) {
  typedef typename TypeParam::Dtype Dtype;
  // As AM-Softmax's net without feature normalisation has it, but faster.
  LabelSpecificAddParameter* add = this->param_.mutable_label_specific_add_param();
  add->set_bias(5);
  add->set_bias_base(0);
  add->set_bias_gamma(-0.05);
  add->set_bias_power(1);
  add->set_bias_min(-0.4);
  add->set_bias_max(-0.02);
  add->set_iteration(0);
  this->top_vec_.push_back(&this->bias_);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(vector<int>(1, 1), this->bias_.shape());
  for (int t = 0; t < 12; ++t) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    const double bias = std::min(-0.02, std::max(-0.4, -0.05 * t));
    EXPECT_NEAR(bias, this->bias_.cpu_data()[0], 1e-6);
    this->ExpectAdded(this->Scores(), this->bias_.cpu_data()[0]);
  }
}

TYPED_TEST(LabelSpecificAddLayerTest, TestSchedulePowerAndStart) {
  typedef typename TypeParam::Dtype Dtype;
  LabelSpecificAddParameter* add = this->param_.mutable_label_specific_add_param();
  add->set_bias_base(-0.75);
  add->set_bias_gamma(0.125);
  add->set_bias_power(2);
  add->set_bias_min(-0.5);
  add->set_bias_max(0.25);
  add->set_iteration(1);
  this->top_vec_.push_back(&this->bias_);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  for (int t = 1; t < 6; ++t) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    const double bias = -0.75 + (1 + 0.125 * t) * (1 + 0.125 * t) - 1;
    EXPECT_NEAR(std::min(0.25, std::max(-0.5, bias)), this->bias_.cpu_data()[0], 1e-6);
  }
}

TYPED_TEST(LabelSpecificAddLayerTest, TestAnotherBatch) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_label_specific_add_param()->set_bias(-0.35);
  LabelSpecificAddLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int batches[] = {9, 2};
  for (int b = 0; b < 2; ++b) {
    this->Fill(batches[b], 4, 1);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(this->x_.shape(), this->y_.shape());
    this->ExpectAdded(this->Scores(), -0.35);
  }
}

class LabelSpecificAddLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  LabelSpecificAddLayerDeathTest() : x_(3, 4, 1, 1), label_(3, 1, 1, 1) {
    param_.set_name("add");
    param_.set_phase(TRAIN);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&top_);
  }

  void Run(bool backward_to_label = false) {
    LabelSpecificAddLayer<float> layer(param_);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    vector<bool> propagate_down(2, true);
    propagate_down[1] = backward_to_label;
    layer.Backward(top_vec_, propagate_down, bottom_vec_);
  }

  LayerParameter param_;
  Blob<float> x_, label_, top_;
  vector<Blob<float>*> bottom_vec_, top_vec_;
};

TEST_F(LabelSpecificAddLayerDeathTest, TestRefused) {
  Run();
  EXPECT_FALSE(LabelSpecificAddLayer<float>(param_).AllowForceBackward(1));
  EXPECT_DEATH(Run(true), "LabelSpecificAdd Layer cannot backpropagate to label inputs");
  label_.mutable_cpu_data()[2] = 4;
  EXPECT_DEATH(Run(), "add: label 4 of sample 2 is out of range; expected 0 to 3");
  label_.Reshape(4, 1, 1, 1);
  EXPECT_DEATH(Run(), "add: expected 3 labels as bottom 1, got 4 1 1 1");
  x_.Reshape(vector<int>(1, 3));
  EXPECT_DEATH(Run(), "add: expected scores .N, C. as bottom 0, got 3 ");
  param_.mutable_label_specific_add_param()->set_bias_min(0.5);
  param_.mutable_label_specific_add_param()->set_bias_base(0.5);
  EXPECT_DEATH(Run(), "add: expected a bias_min of at most bias_max .0 where one is not given.");
}

}  // namespace caffe
