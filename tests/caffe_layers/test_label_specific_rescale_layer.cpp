#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/label_specific_rescale_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class LabelSpecificRescaleLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  LabelSpecificRescaleLayerTest() {
    Caffe::set_random_seed(1701);
    param_.set_phase(TRAIN);
    rescale_ = param_.mutable_label_specific_rescale_param();
    Fill(6, 4);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  /// Scores at least 0.05 away from 0; of the labels' some below it, some above.
  void Fill(int samples, int classes) {
    vector<int> shape(2);
    shape[0] = samples;
    shape[1] = classes;
    x_.Reshape(shape);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    label_.Reshape(vector<int>(1, samples));
    for (int i = 0; i < samples; ++i) {
      label_.mutable_cpu_data()[i] = i * i % classes;
    }
    for (int i = 0; i < x_.count(); ++i) {
      if (std::abs(x_.cpu_data()[i]) < 0.05) {
        x_.mutable_cpu_data()[i] = 0.5;
      }
    }
    for (int i = 0; i < samples; ++i) {
      Dtype* score = x_.mutable_cpu_data() + i * classes + i * i % classes;
      *score = i % 2 ? -std::abs(*score) : std::abs(*score);
    }
  }

  vector<Dtype> Scores() const { return vector<Dtype>(x_.cpu_data(), x_.cpu_data() + x_.count()); }

  /// Of score x of a class that is the label's or not: what comes out, and the derivative.
  void Expected(double x, bool at_label, double positive, double* y, double* slope) const {
    if (!at_label) {
      *slope = rescale_->negative_weight();
      *y = *slope * x;
    } else if (rescale_->for_ip() && x <= 0) {
      *slope = 1;
      *y = x;
    } else {
      *slope = positive;
      *y = positive * x + (rescale_->bias_fix() ? 1 - positive : 0);
    }
  }

  /// Forward twice, Backward twice, from the same scores; in place or not.
  void CheckPass(double positive, bool in_place = false) {
    LabelSpecificRescaleLayer<Dtype> layer(param_);
    top_vec_[0] = in_place ? &x_ : &y_;
    layer.SetUp(bottom_vec_, top_vec_);
    const vector<Dtype> x = Scores();
    const int count = x_.count(), classes = x_.count(1);
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    for (int pass = 0; pass < 2; ++pass) {
      caffe_copy(count, &x[0], x_.mutable_cpu_data());
      layer.Forward(bottom_vec_, top_vec_);
      for (int i = 0; i < count; ++i) {
        top_vec_[0]->mutable_cpu_diff()[i] = (i * 5 % 7) - Dtype(2.5);
      }
      layer.Backward(top_vec_, propagate_down, bottom_vec_);
      for (int i = 0; i < count; ++i) {
        double y, slope;
        if (label_.cpu_data()[i / classes] < 0) {
          y = x[i];
          slope = 1;
        } else {
          Expected(x[i], i % classes == label_.cpu_data()[i / classes], positive, &y, &slope);
        }
        slope = rescale_->do_backward() ? slope : 1;
        EXPECT_NEAR(y, top_vec_[0]->cpu_data()[i], 1e-5);
        EXPECT_NEAR(slope * ((i * 5 % 7) - 2.5), x_.cpu_diff()[i], 1e-5);
      }
    }
    caffe_copy(count, &x[0], x_.mutable_cpu_data());
  }

  LayerParameter param_;
  LabelSpecificRescaleParameter* rescale_;
  Blob<Dtype> x_, label_, y_, weight_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(LabelSpecificRescaleLayerTest, TestDtypesAndDevices);

TYPED_TEST(LabelSpecificRescaleLayerTest, TestSamplesWithoutAClass) {
  this->label_.mutable_cpu_data()[0] = this->label_.mutable_cpu_data()[4] = -1;
  this->rescale_->set_positive_weight(0.75);
  this->rescale_->set_negative_weight(0.5);
  for (int option = 0; option < 4; ++option) {
    this->rescale_->set_do_backward(option / 2);
    this->CheckPass(0.75, option % 2);
  }
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestAllOptions) {
  const double positives[] = {1, 0.75, 2.5}, negatives[] = {1, 0.5};
  for (int option = 0; option < 2 * 2 * 2 * 3 * 2; ++option) {
    const double positive = positives[option / 8 % 3];
    this->rescale_->set_positive_weight(positive);
    this->rescale_->set_negative_weight(negatives[option / 24]);
    this->rescale_->set_for_ip(option % 2);
    this->rescale_->set_bias_fix(option / 2 % 2);
    this->CheckPass(positive, option / 4 % 2);
  }
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (int option = 0; option < 4; ++option) {
    this->rescale_->set_positive_weight(0.75);
    this->rescale_->set_negative_weight(1.25);
    this->rescale_->set_for_ip(option % 2);
    this->rescale_->set_bias_fix(option / 2);
    LabelSpecificRescaleLayer<Dtype> layer(this->param_);
    GradientChecker<Dtype> checker(1e-2, 1e-2);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestOneSampleOneClass) {
  this->Fill(1, 1);
  this->rescale_->set_positive_weight(0.75);
  this->CheckPass(0.75);
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestZeros) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(this->x_.count(), Dtype(0), this->x_.mutable_cpu_data());
  this->rescale_->set_positive_weight(0.75);
  this->rescale_->set_bias_fix(true);
  this->CheckPass(0.75);
  this->rescale_->set_for_ip(true);
  this->CheckPass(0.75);
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestMoreAxes) {
  vector<int> shape(4);
  shape[0] = 6;
  shape[1] = 2;
  shape[2] = 1;
  shape[3] = 2;
  this->x_.Reshape(shape);
  this->rescale_->set_positive_weight(0.75);
  this->rescale_->set_negative_weight(1.25);
  this->CheckPass(0.75);
  EXPECT_EQ(shape, this->y_.shape());
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestPhases) {
  typedef typename TypeParam::Dtype Dtype;
  this->rescale_->set_positive_weight(0.75);
  this->rescale_->set_negative_weight(1.25);
  this->rescale_->set_positive_weight_base(0.5);  // of no effect in TEST
  this->param_.set_phase(TEST);
  this->top_vec_.push_back(&this->weight_);
  this->rescale_->set_rescale_test(true);
  this->CheckPass(0.75);
  EXPECT_NEAR(0.75, this->weight_.cpu_data()[0], 1e-6);
  this->rescale_->set_rescale_test(false);
  this->label_.mutable_cpu_data()[5] = -1;  // nothing looks at it
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  for (int in_place = 0; in_place < 2; ++in_place) {
    LabelSpecificRescaleLayer<Dtype> layer(this->param_);
    this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    const vector<Dtype> x = this->Scores();
    layer.Forward(this->bottom_vec_, this->top_vec_);
    caffe_set(this->x_.count(), Dtype(3), this->top_vec_[0]->mutable_cpu_diff());
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    for (int i = 0; i < this->x_.count(); ++i) {
      EXPECT_EQ(x[i], this->top_vec_[0]->cpu_data()[i]);
      EXPECT_EQ(3, this->x_.cpu_diff()[i]);
    }
    EXPECT_NEAR(0.75, this->weight_.cpu_data()[0], 1e-6);
  }
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestSchedule) {
  typedef typename TypeParam::Dtype Dtype;
  this->rescale_->set_positive_weight(5);
  this->rescale_->set_positive_weight_base(2);
  this->rescale_->set_gamma(0.5);
  this->rescale_->set_power(2);
  this->rescale_->set_iteration(1);
  this->top_vec_.push_back(&this->weight_);
  for (int bounded = 0; bounded < 2; ++bounded) {
    if (bounded) {
      this->rescale_->set_positive_weight_min(0.1);
      this->rescale_->set_positive_weight_max(0.3);
    }
    LabelSpecificRescaleLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(vector<int>(1, 1), this->weight_.shape());
    for (int t = 2; t < 12; ++t) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      double weight = 2 / ((1 + 0.5 * t) * (1 + 0.5 * t));
      weight = bounded ? std::min(0.3, std::max(0.1, weight)) : weight;
      EXPECT_NEAR(weight, this->weight_.cpu_data()[0], 1e-6);
      EXPECT_NEAR(weight * this->x_.cpu_data()[0], this->y_.cpu_data()[0], 1e-6);
    }
  }
}

TYPED_TEST(LabelSpecificRescaleLayerTest, TestAnotherBatch) {
  typedef typename TypeParam::Dtype Dtype;
  this->rescale_->set_positive_weight(0.75);
  LabelSpecificRescaleLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int batches[] = {9, 2};
  for (int b = 0; b < 2; ++b) {
    this->Fill(batches[b], 4);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(this->x_.shape(), this->y_.shape());
    for (int i = 0; i < this->x_.count(); ++i) {
      const double weight = i % 4 == this->label_.cpu_data()[i / 4] ? 0.75 : 1;
      EXPECT_NEAR(weight * this->x_.cpu_data()[i], this->y_.cpu_data()[i], 1e-6);
    }
  }
}

class LabelSpecificRescaleLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  LabelSpecificRescaleLayerDeathTest() : x_(3, 4, 1, 1), label_(3, 1, 1, 1) {
    param_.set_name("rescale");
    param_.set_phase(TRAIN);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&top_);
  }

  void Run(bool backward_to_label = false) {
    LabelSpecificRescaleLayer<float> layer(param_);
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

TEST_F(LabelSpecificRescaleLayerDeathTest, TestBottoms) {
  Run();
  EXPECT_FALSE(LabelSpecificRescaleLayer<float>(param_).AllowForceBackward(1));
  EXPECT_DEATH(Run(true), "LabelSpecificRescale Layer cannot backpropagate to label inputs");
  label_.mutable_cpu_data()[2] = 4;
  EXPECT_DEATH(Run(), "rescale: label 4 of sample 2 is out of range; expected 0 to 3");
  label_.Reshape(4, 1, 1, 1);
  EXPECT_DEATH(Run(), "rescale: expected 3 labels as bottom 1, got 4 1 1 1");
  x_.Reshape(vector<int>(1, 3));
  EXPECT_DEATH(Run(), "rescale: expected scores .N, C. as bottom 0, got 3 ");
}

TEST_F(LabelSpecificRescaleLayerDeathTest, TestRefusedFields) {
  LabelSpecificRescaleParameter* rescale = param_.mutable_label_specific_rescale_param();
  rescale->set_positive_lower_bound(0.5);
  EXPECT_DEATH(Run(), "rescale: positive_lower_bound is not supported");
  rescale->Clear();
  rescale->set_negative_upper_bound(0.5);
  EXPECT_DEATH(Run(), "rescale: negative_upper_bound is not supported");
  rescale->Clear();
  rescale->set_power_on_positive(true);
  EXPECT_DEATH(Run(), "rescale: power_on_positive is not supported");
  rescale->Clear();
  rescale->set_positive_weight_min(0.5);
  rescale->set_positive_weight_max(0.25);
  EXPECT_DEATH(Run(), "rescale: expected a positive_weight_min of at most positive_weight_max");
}

}  // namespace caffe
