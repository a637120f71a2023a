#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/label_specific_margin_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class LabelSpecificMarginLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  LabelSpecificMarginLayerTest() {
    Caffe::set_random_seed(1701);
    param_.set_phase(TRAIN);
    margin_param_ = param_.mutable_label_specific_margin_param();
    Fill(6, 4);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  /// Cosines, of which the slope of the arc is at most 3.
  void Fill(int samples, int classes) {
    vector<int> shape(2);
    shape[0] = samples;
    shape[1] = classes;
    x_.Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_min(-0.94);
    filler_param.set_max(0.94);
    UniformFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    label_.Reshape(vector<int>(1, samples));
    for (int i = 0; i < samples; ++i) {
      label_.mutable_cpu_data()[i] = i * i % classes;
    }
  }

  /// A margin that no schedule changes; in TRAIN it is in the blob again at every pass.
  void FixedMargin(double degrees) {
    margin_param_->set_margin_base(degrees);
    margin_param_->set_gamma(0);
  }

  vector<Dtype> Scores() const { return vector<Dtype>(x_.cpu_data(), x_.cpu_data() + x_.count()); }

  /// The label's score is ArcFace's (cos(theta) - m sin m beyond theta + m = pi), or cos(theta + m) all the way.
  void ExpectMargin(const vector<Dtype>& x, double degrees, bool guarded = true) {
    const int classes = x_.count(1);
    const double m = degrees * Degree();
    for (int i = 0; i < x_.count(); ++i) {
      double y = x[i];
      if (i % classes == label_.cpu_data()[i / classes]) {
        const double theta = std::acos(static_cast<double>(x[i]));
        y = guarded && Beyond(theta, m) ? x[i] - m * std::sin(m) : std::cos(theta + m);
      }
      EXPECT_NEAR(y, top_vec_[0]->cpu_data()[i], 1e-5);
    }
  }

  /// The derivative, sin(theta + m) / sin(theta); or that of the fork's first version.
  void ExpectGradient(const vector<Dtype>& x, double degrees, bool fork = false) {
    const int classes = x_.count(1);
    const double m = degrees * Degree();
    for (int i = 0; i < x_.count(); ++i) {
      double slope = 1;
      if (i % classes == label_.cpu_data()[i / classes]) {
        const double theta = std::acos(static_cast<double>(x[i]));
        if (fork) {
          slope = std::cos(m) - std::sin(m) / std::tan(theta);
        } else if (!Beyond(theta, m)) {
          slope = std::sin(theta + m) / std::sin(theta);
        }
      }
      EXPECT_NEAR(slope * Gradient(i), x_.cpu_diff()[i], 1e-4);
    }
  }

  static bool Beyond(double theta, double m) { return theta + m > 180 * Degree(); }

  /// Puts `cosine` at the label of every sample.
  void SetLabelCosines(double cosine) {
    for (int i = 0; i < x_.shape(0); ++i) {
      x_.mutable_cpu_data()[i * x_.count(1) + static_cast<int>(label_.cpu_data()[i])] = cosine;
    }
  }

  Dtype* AtLabel(int i, Dtype* of) { return of + i * x_.count(1) + static_cast<int>(label_.cpu_data()[i]); }

  void Backward(LabelSpecificMarginLayer<Dtype>* layer) {
    for (int i = 0; i < x_.count(); ++i) {
      top_vec_[0]->mutable_cpu_diff()[i] = Gradient(i);
    }
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  static double Gradient(int i) { return (i * 5 % 7) - 2.5; }
  static double Degree() { return 3.14159265358979323846 / 180; }

  LayerParameter param_;
  LabelSpecificMarginParameter* margin_param_;
  Blob<Dtype> x_, label_, y_, margin_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(LabelSpecificMarginLayerTest, TestDtypesAndDevices);

TYPED_TEST(LabelSpecificMarginLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(vector<int>(1, 1), layer.blobs()[0]->shape());
  for (int pass = 0; pass < 2; ++pass) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectMargin(this->Scores(), 20);
    EXPECT_EQ(20, layer.blobs()[0]->cpu_data()[0]);
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestGradientBeyondPi) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(60);
  this->SetLabelCosines(-0.8);  // theta + m = pi at -0.5
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(this->Scores(), 60);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestDerivative) {
  typedef typename TypeParam::Dtype Dtype;
  const double margins[] = {20, 60, 90};
  for (int k = 0; k < 3; ++k) {
    this->FixedMargin(margins[k]);
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectMargin(this->Scores(), margins[k]);
    for (int pass = 0; pass < 2; ++pass) {
      this->Backward(&layer);
      this->ExpectGradient(this->Scores(), margins[k]);
    }
    EXPECT_EQ(0, layer.blobs()[0]->cpu_diff()[0]);
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestANearSampleIsDrawnNearer) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(28.65);
  this->SetLabelCosines(0.99);
  for (int exact = 0; exact < 2; ++exact) {
    this->margin_param_->set_exact_gradient(exact);
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    caffe_set(this->y_.count(), Dtype(1), this->y_.mutable_cpu_diff());
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    for (int i = 0; i < 6; ++i) {
      EXPECT_NEAR(exact ? 4.242 : -2.487, *this->AtLabel(i, this->x_.mutable_cpu_diff()), 1e-2);
    }
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestForksFirstVersion) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(60);
  this->margin_param_->set_exact_gradient(false);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(this->Scores(), 60, false);
  this->Backward(&layer);
  this->ExpectGradient(this->Scores(), 60, true);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestTheScoreNeverRisesWithTheAngle) {
  typedef typename TypeParam::Dtype Dtype;
  const int steps = 61;
  this->Fill(steps, 1);
  for (int i = 0; i < steps; ++i) {
    this->x_.mutable_cpu_data()[i] = std::cos(0.01 + 3.12 * i / (steps - 1));
  }
  const double margins[] = {1, 28.65, 132, 150, 180, 200, -28.65, -150};
  for (int k = 0; k < 8; ++k) {
    this->FixedMargin(margins[k]);
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    caffe_set(steps, Dtype(1), this->y_.mutable_cpu_diff());
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    for (int i = 0; i < steps; ++i) {
      EXPECT_GT(this->x_.cpu_diff()[i], 0);
      if (i > 0) {
        EXPECT_LT(this->y_.cpu_data()[i], this->y_.cpu_data()[i - 1]);
      }
    }
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  this->top_vec_[0] = &this->x_;
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const vector<Dtype> x = this->Scores();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(x, 20);
  this->Backward(&layer);
  this->ExpectGradient(x, 20);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestSamplesWithoutAClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  this->label_.mutable_cpu_data()[0] = this->label_.mutable_cpu_data()[4] = -1;
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(this->Scores(), 20);
  this->Backward(&layer);
  this->ExpectGradient(this->Scores(), 20);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestGradientPassedOn) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  this->margin_param_->set_pass_bp(true);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(this->Scores(), 20);
  this->Backward(&layer);
  for (int i = 0; i < this->x_.count(); ++i) {
    EXPECT_EQ(Dtype(this->Gradient(i)), this->x_.cpu_diff()[i]);
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestOneSampleOneClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  this->Fill(1, 1);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectMargin(this->Scores(), 20);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestCosinesAtAndBeyondOne) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  const double edge[] = {1, 1 + 1e-6, -1, -1 - 1e-6, 0};
  for (int i = 0; i < 5; ++i) {
    this->x_.mutable_cpu_data()[i * 4 + i * i % 4] = edge[i];
  }
  for (int exact = 0; exact < 2; ++exact) {
    this->margin_param_->set_exact_gradient(exact);
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->Backward(&layer);
    const double m = 20 * this->Degree();
    for (int i = 0; i < 5; ++i) {
      const double theta = std::acos(std::min(1., std::max(-1., edge[i])));
      const bool guarded = exact && edge[i] <= -1;
      const double y = guarded ? edge[i] - m * std::sin(m) : std::cos(theta + m);
      EXPECT_NEAR(y, this->y_.cpu_data()[i * 4 + i * i % 4], 1e-5);
    }
    for (int i = 0; i < this->x_.count(); ++i) {
      const double most = exact ? std::cos(m) + 1000 * std::sin(m) : 1e6;  // the slope
      EXPECT_LE(std::abs(this->x_.cpu_diff()[i]), 3.5 * 1.001 * most);  // not if NaN
    }
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestMoreAxes) {
  typedef typename TypeParam::Dtype Dtype;
  vector<int> shape(4);
  shape[0] = 6;
  shape[1] = 2;
  shape[2] = 1;
  shape[3] = 2;
  this->x_.Reshape(shape);
  this->FixedMargin(20);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(shape, this->y_.shape());
  this->ExpectMargin(this->Scores(), 20);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestSchedule) {
  typedef typename TypeParam::Dtype Dtype;
  this->margin_param_->set_margin_base(2);
  this->margin_param_->set_margin_max(10);
  this->margin_param_->set_gamma(0.5);
  this->margin_param_->set_power(2);
  this->margin_param_->set_iteration(1);
  this->top_vec_.push_back(&this->margin_);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(vector<int>(1, 1), this->margin_.shape());
  EXPECT_EQ(2, layer.blobs()[0]->cpu_data()[0]);
  for (int t = 1; t < 7; ++t) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    const double margin = std::min(10., 2 + (1 + 0.5 * t) * (1 + 0.5 * t) - 1);
    EXPECT_NEAR(margin, this->margin_.cpu_data()[0], 1e-5);
    EXPECT_NEAR(margin, layer.blobs()[0]->cpu_data()[0], 1e-5);
    this->ExpectMargin(this->Scores(), margin);
  }
  EXPECT_EQ(10, this->margin_.cpu_data()[0]);
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestStoredMargin) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.push_back(&this->margin_);
  for (int bounded = 0; bounded < 2; ++bounded) {
    if (bounded) {
      this->margin_param_->set_margin_max(15);
    }
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(0, layer.blobs()[0]->cpu_data()[0]);
    layer.blobs()[0]->mutable_cpu_data()[0] = 25;
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectMargin(this->Scores(), bounded ? 15 : 25);
      EXPECT_EQ(bounded ? 15 : 25, this->margin_.cpu_data()[0]);
      EXPECT_EQ(bounded ? 15 : 25, layer.blobs()[0]->cpu_data()[0]);
    }
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestPhases) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.set_phase(TEST);
  this->margin_param_->set_margin_base(5);  // the schedule is of no effect in TEST
  this->top_vec_.push_back(&this->margin_);
  for (int acts = 0; acts < 2; ++acts) {
    this->margin_param_->set_margin_on_test(acts);
    this->label_.mutable_cpu_data()[5] = acts ? 2 : -1;  // nothing looks at it unless the layer acts
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.blobs()[0]->mutable_cpu_data()[0] = 25;  // as a net in TRAIN shares it
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectMargin(this->Scores(), acts ? 25 : 0);
      this->Backward(&layer);
      this->ExpectGradient(this->Scores(), acts ? 25 : 0);
      EXPECT_EQ(25, this->margin_.cpu_data()[0]);
      EXPECT_EQ(25, layer.blobs()[0]->cpu_data()[0]);
    }
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestTheSolverLeavesTheMarginAlone) {
  typedef typename TypeParam::Dtype Dtype;
  for (int given = 0; given < 2; ++given) {
    if (given) {
      this->param_.add_param()->set_lr_mult(1);
    }
    LabelSpecificMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    ASSERT_EQ(1, layer.layer_param().param_size());
    EXPECT_EQ(0, layer.layer_param().param(0).lr_mult());
    EXPECT_EQ(0, layer.layer_param().param(0).decay_mult());
  }
}

TYPED_TEST(LabelSpecificMarginLayerTest, TestAnotherBatch) {
  typedef typename TypeParam::Dtype Dtype;
  this->FixedMargin(20);
  LabelSpecificMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int batches[] = {9, 2};
  for (int b = 0; b < 2; ++b) {
    this->Fill(batches[b], 4);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(this->x_.shape(), this->y_.shape());
    this->ExpectMargin(this->Scores(), 20);
    this->Backward(&layer);
    this->ExpectGradient(this->Scores(), 20);
  }
}

class LabelSpecificMarginLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  LabelSpecificMarginLayerDeathTest() : x_(3, 4, 1, 1), label_(3, 1, 1, 1) {
    param_.set_name("margin");
    param_.set_phase(TRAIN);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&top_);
  }

  void Run(bool backward_to_label = false) {
    LabelSpecificMarginLayer<float> layer(param_);
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

TEST_F(LabelSpecificMarginLayerDeathTest, TestBottoms) {
  Run();
  EXPECT_FALSE(LabelSpecificMarginLayer<float>(param_).AllowForceBackward(1));
  EXPECT_DEATH(Run(true), "LabelSpecificMargin Layer cannot backpropagate to label inputs");
  label_.mutable_cpu_data()[2] = 4;
  EXPECT_DEATH(Run(), "margin: label 4 of sample 2 is out of range; expected 0 to 3");
  label_.Reshape(4, 1, 1, 1);
  EXPECT_DEATH(Run(), "margin: expected 3 labels as bottom 1, got 4 1 1 1");
  x_.Reshape(vector<int>(1, 3));
  EXPECT_DEATH(Run(), "margin: expected scores .N, C. as bottom 0, got 3 ");
}

TEST_F(LabelSpecificMarginLayerDeathTest, TestRefusedFields) {
  LabelSpecificMarginParameter* margin = param_.mutable_label_specific_margin_param();
  margin->set_type(LabelSpecificMarginParameter_MarginType_SOFT);
  EXPECT_DEATH(Run(), "margin: type SOFT is not supported");
  margin->Clear();
  margin->set_auto_tune(true);
  EXPECT_DEATH(Run(), "margin: auto_tune is not supported");
  margin->Clear();
  margin->set_reset_margin(true);
  EXPECT_DEATH(Run(), "margin: reset_margin is not supported");
}

}  // namespace caffe
