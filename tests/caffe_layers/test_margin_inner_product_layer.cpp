#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/margin_inner_product_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

#include "margin_layer_test.hpp"

namespace caffe {

template <typename TypeParam>
class MarginInnerProductLayerTest : public MarginLayerTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  using MarginLayerTest<TypeParam>::Dot;
  using MarginLayerTest<TypeParam>::Psi;
  using MarginLayerTest<TypeParam>::x_;
  using MarginLayerTest<TypeParam>::label_;
  using MarginLayerTest<TypeParam>::y_;

  MarginInnerProductLayerTest() {
    margin_ = this->param_.mutable_margin_inner_product_param();
    margin_->set_num_output(4);
    margin_->set_base(0.5);  // lambda
    margin_->mutable_weight_filler()->set_type("gaussian");
  }

  void SetMargin(int m) {
    margin_->set_type(static_cast<MarginInnerProductParameter_MarginType>(m - 1));
  }

  /// The rows of the stored weight, divided by their length.
  static vector<double> UnitRowsOf(const Blob<Dtype>& weight) {
    vector<double> rows(24);
    for (int j = 0; j < 4; ++j) {
      const Dtype* w = weight.cpu_data() + j * 6;
      const double length = std::sqrt(Dot(w, w) + 1e-12);
      for (int k = 0; k < 6; ++k) {
        rows[j * 6 + k] = w[k] / length;
      }
    }
    return rows;
  }

  /// g^T x, and with exact_gradient the derivative by the weight, for FillTopDiff's gradient.
  vector<double> WeightGradient(const Blob<Dtype>& weight, int m, double lambda) {
    vector<double> gradient(24, 0), w = UnitRowsOf(weight);
    for (int i = 0; i < label_.count(); ++i) {
      const Dtype* x = x_.cpu_data() + i * 6;
      for (int j = 0; j < 4; ++j) {
        const double g = y_.cpu_diff()[i * 4 + j];
        // |x| psi(w.x / |x| / |w|) |w| by w is slope x + (psi - cos slope) |x| w where |w| is 1.
        double in_x = 1, in_w = 0;
        if (m > 1 && margin_->exact_gradient() && j == label_.cpu_data()[i]) {
          const double x_length = std::sqrt(Dot(x, x)), cosine = Dot(x, &w[j * 6]) / x_length;
          double psi, slope;
          Psi(m, std::acos(cosine), &psi, &slope);
          in_x = (slope + lambda) / (1 + lambda);
          in_w = (psi - cosine * slope) * x_length / (1 + lambda);
        }
        for (int k = 0; k < 6; ++k) {
          gradient[j * 6 + k] += g * (in_x * x[k] + in_w * w[j * 6 + k]);
        }
      }
    }
    for (int j = 0; j < 4 && margin_->exact_gradient(); ++j) {
      const Dtype* stored = weight.cpu_data() + j * 6;
      const double length = std::sqrt(Dot(stored, stored) + 1e-12), along = Dot(&gradient[j * 6], &w[j * 6]);
      for (int k = 0; k < 6; ++k) {
        gradient[j * 6 + k] = (gradient[j * 6 + k] - along * w[j * 6 + k]) / length;
      }
    }
    return gradient;
  }

  /// The published layer's gradient of the bottom.
  vector<double> PublishedBottomGradient(const vector<double>& w, int m, double lambda) {
    vector<double> gradient(x_.count(), 0);
    for (int i = 0; i < label_.count(); ++i) {
      const Dtype* x = x_.cpu_data() + i * 6;
      for (int j = 0; j < 4; ++j) {
        double in_w = 1, in_x = 0;
        if (m > 1 && j == label_.cpu_data()[i]) {
          const double x_length = std::sqrt(Dot(x, x)), cosine = Dot(x, &w[j * 6]) / x_length;
          double psi, slope;
          Psi(m, std::acos(cosine), &psi, &slope);
          const double rest = (psi - cosine * slope) / x_length;
          const double scale = std::sqrt(slope * slope + rest * rest);
          in_w = (slope / scale + lambda) / (1 + lambda);
          in_x = rest / scale / (1 + lambda);
        }
        for (int k = 0; k < 6; ++k) {
          gradient[i * 6 + k] += y_.cpu_diff()[i * 4 + j] * (in_w * w[j * 6 + k] + in_x * x[k]);
        }
      }
    }
    return gradient;
  }

  MarginInnerProductParameter* margin_;
};

TYPED_TEST_CASE(MarginInnerProductLayerTest, TestDtypesAndDevices);

TYPED_TEST(MarginInnerProductLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int m = 1; m <= 4; ++m) {
    this->SetMargin(m);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ("8 4 (32)", this->y_.shape_string());
    this->TurnToAllAngles(*layer.blobs()[0]);
    const vector<double> rows = this->UnitRowsOf(*layer.blobs()[0]);
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectScores(rows, m, 0.5);
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestOnlyTrainStoresUnitRows) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(2);
  for (int option = 0; option < 4; ++option) {
    const bool train = option % 2;
    this->param_.set_phase(train ? TRAIN : TEST);
    this->margin_->set_exact_gradient(option / 2);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype> before;
    before.CopyFrom(*layer.blobs()[0], false, true);
    const vector<double> rows = this->UnitRowsOf(before);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < 24; ++i) {
      EXPECT_NEAR(train ? rows[i] : before.cpu_data()[i], layer.blobs()[0]->cpu_data()[i], 1e-6);
    }
    this->ExpectScores(rows, 2, 0.5);
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestPublishedGradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (int m = 1; m <= 4; ++m) {
    this->SetMargin(m);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = layer.blobs()[0].get();
    this->TurnToAllAngles(*weight);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->FillTopDiff();
    caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
    const vector<double> dx = this->PublishedBottomGradient(this->UnitRowsOf(*weight), m, 0.5);
    const vector<double> dw = this->WeightGradient(*weight, m, 0.5);
    for (int pass = 1; pass < 3; ++pass) {  // the weight's gradient adds up, the bottom's does not
      this->Backward(&layer);
      for (int i = 0; i < this->x_.count(); ++i) {
        EXPECT_NEAR(dx[i], this->x_.cpu_diff()[i], 1e-4) << "m " << m;
      }
      for (int i = 0; i < 24; ++i) {
        EXPECT_NEAR(pass * dw[i], weight->cpu_diff()[i], 1e-4) << "m " << m;
      }
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestGradientExact) {
  typedef typename TypeParam::Dtype Dtype;
  // In TEST, where Forward leaves the weight as the checker has changed it.
  this->param_.set_phase(TEST);
  this->margin_->set_exact_gradient(true);
  for (int m = 1; m <= 4; ++m) {
    this->SetMargin(m);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    this->TurnToAllAngles(*layer.blobs()[0]);
    GradientChecker<Dtype> checker(5e-3, 1e-2);
    checker.CheckGradient(&layer, this->bottom_vec_, this->top_vec_, 0);  // of half the sum of all squares
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestExactGradientInTrain) {
  typedef typename TypeParam::Dtype Dtype;
  this->margin_->set_exact_gradient(true);
  for (int m = 1; m <= 4; ++m) {
    this->SetMargin(m);
    this->param_.set_phase(TRAIN);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = layer.blobs()[0].get();
    this->TurnToAllAngles(*weight);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->FillTopDiff();
    caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
    const vector<double> dw = this->WeightGradient(*weight, m, 0.5);
    for (int pass = 1; pass < 3; ++pass) {
      this->Backward(&layer);
      for (int i = 0; i < 24; ++i) {
        EXPECT_NEAR(pass * dw[i], weight->cpu_diff()[i], 1e-4) << "m " << m;
      }
    }
    for (int j = 0; j < 4; ++j) {  // along the sphere
      EXPECT_NEAR(0, this->Dot(weight->cpu_data() + j * 6, weight->cpu_diff() + j * 6), 1e-4);
    }
    // The same as in TEST, where it is checked by finite differences, with those rows.
    Blob<Dtype> x_gradient;
    x_gradient.CopyFrom(this->x_, true, true);
    this->param_.set_phase(TEST);
    MarginInnerProductLayer<Dtype> test_layer(this->param_);
    test_layer.SetUp(this->bottom_vec_, this->top_vec_);
    test_layer.blobs()[0]->CopyFrom(*weight);
    test_layer.Forward(this->bottom_vec_, this->top_vec_);
    caffe_set(24, Dtype(0), test_layer.blobs()[0]->mutable_cpu_diff());
    this->Backward(&test_layer);
    for (int i = 0; i < 24; ++i) {
      EXPECT_NEAR(dw[i], test_layer.blobs()[0]->cpu_diff()[i], 1e-4);
    }
    for (int i = 0; i < this->x_.count(); ++i) {
      EXPECT_NEAR(x_gradient.cpu_diff()[i], this->x_.cpu_diff()[i], 1e-4);
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestZeroVectors) {
  typedef typename TypeParam::Dtype Dtype;
  for (int option = 0; option < 16; ++option) {
    this->SetMargin(option / 4 + 1);
    this->margin_->set_exact_gradient(option % 2);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    // A sample, the row of its label, and the row of another sample's label.
    Blob<Dtype>* weight = layer.blobs()[0].get();
    const bool zero_row = option / 2 % 2;
    caffe_set(6, Dtype(0), this->x_.mutable_cpu_data());
    this->label_.mutable_cpu_data()[0] = 1;
    if (zero_row) {
      caffe_set(6, Dtype(0), weight->mutable_cpu_data() + 6);
    }
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int j = 0; j < 4; ++j) {
      EXPECT_NEAR(0, this->y_.cpu_data()[j], 1e-6);
    }
    this->FillTopDiff();
    caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
    this->Backward(&layer);
    for (int i = 0; i < this->x_.count(); ++i) {
      EXPECT_LT(std::abs(this->x_.cpu_diff()[i]), 1e3);  // not if NaN
    }
    for (int i = 0; i < 24; ++i) {
      EXPECT_LT(std::abs(weight->cpu_data()[i]), 1.001);
      EXPECT_LT(std::abs(weight->cpu_diff()[i]), 1e10);
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestOneClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(4);
  this->margin_->set_num_output(1);
  caffe_set(8, Dtype(0), this->label_.mutable_cpu_data());
  MarginInnerProductLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->TurnToAllAngles(*layer.blobs()[0]);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  const double length = std::sqrt(this->Dot(this->x_.cpu_data(), this->x_.cpu_data()));
  const double degree = this->Pi() / 180;  // the first sample's angle is 10 degrees
  EXPECT_NEAR(length * (std::cos(40 * degree) + 0.5 * std::cos(10 * degree)) / 1.5, this->y_.cpu_data()[0], 1e-4);
}

TYPED_TEST(MarginInnerProductLayerTest, TestNoGradientOfTheWeightUnlessWanted) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(3);
  for (int exact = 0; exact < 2; ++exact) {
    this->margin_->set_exact_gradient(exact);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.set_param_propagate_down(0, false);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->FillTopDiff();
    caffe_set(24, Dtype(7), layer.blobs()[0]->mutable_cpu_diff());
    caffe_set(this->x_.count(), Dtype(7), this->x_.mutable_cpu_diff());
    layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
    for (int i = 0; i < 24; ++i) {
      EXPECT_EQ(7, layer.blobs()[0]->cpu_diff()[i]);
    }
    for (int i = 0; i < this->x_.count(); ++i) {
      EXPECT_EQ(7, this->x_.cpu_diff()[i]);
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestLambda) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(2);
  this->margin_->set_base(8);
  this->margin_->set_gamma(0.5);
  this->margin_->set_power(2);
  this->margin_->set_lambda_min(0.25);
  this->margin_->set_iteration(3);
  this->top_vec_.push_back(&this->lambda_);
  for (int phase = 0; phase < 2; ++phase) {
    this->param_.set_phase(phase ? TEST : TRAIN);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(vector<int>(1, 1), this->lambda_.shape());
    this->TurnToAllAngles(*layer.blobs()[0]);
    for (int pass = 0; pass < 12; ++pass) {
      const int t = phase ? 3 : 4 + pass;
      layer.Forward(this->bottom_vec_, this->top_vec_);
      const double lambda = std::max(0.25, 8 / ((1 + 0.5 * t) * (1 + 0.5 * t)));
      EXPECT_NEAR(lambda, this->lambda_.cpu_data()[0], 1e-5);
      this->ExpectScores(this->UnitRowsOf(*layer.blobs()[0]), 2, lambda);
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestTheReportOfLambdaHasNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(3);
  this->top_vec_.push_back(&this->lambda_);
  MarginInnerProductLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->y_.count(), Dtype(0), this->y_.mutable_cpu_diff());
  this->lambda_.mutable_cpu_diff()[0] = 5;
  this->Backward(&layer);
  for (int i = 0; i < this->x_.count(); ++i) {
    EXPECT_EQ(0, this->x_.cpu_diff()[i]);
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestAxis) {
  typedef typename TypeParam::Dtype Dtype;
  // (2, 4, 6) with axis 2 are eight samples.
  this->SetMargin(4);
  vector<int> shape(3);
  shape[0] = 2;
  shape[1] = 4;
  shape[2] = 6;
  this->x_.Reshape(shape);
  this->label_.Reshape(vector<int>(shape.begin(), shape.begin() + 2));
  const int axes[] = {2, -1};
  for (int a = 0; a < 2; ++a) {
    this->margin_->set_axis(axes[a]);
    MarginInnerProductLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ("2 4 4 (32)", this->y_.shape_string());
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectScores(this->UnitRowsOf(*layer.blobs()[0]), 4, 0.5);
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestAnotherBatch) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetMargin(4);
  MarginInnerProductLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int batches[] = {11, 1};
  for (int b = 0; b < 2; ++b) {
    this->Fill(batches[b]);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(batches[b], this->y_.shape(0));
    this->ExpectScores(this->UnitRowsOf(*layer.blobs()[0]), 4, 0.5);
    this->FillTopDiff();
    caffe_set(24, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
    this->Backward(&layer);
    const vector<double> expected = this->WeightGradient(*layer.blobs()[0], 4, 0.5);
    for (int i = 0; i < 24; ++i) {
      EXPECT_NEAR(expected[i], layer.blobs()[0]->cpu_diff()[i], 1e-4 * (1 + std::abs(expected[i])));
    }
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestManySamplesOfAClass) {
  typedef typename TypeParam::Dtype Dtype;
  // More samples than a block of the GPU has threads, of few classes.
  this->SetMargin(2);
  this->margin_->set_exact_gradient(true);
  this->Fill(300);
  MarginInnerProductLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectScores(this->UnitRowsOf(*layer.blobs()[0]), 2, 0.5);
  this->FillTopDiff();
  caffe_set(24, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
  this->Backward(&layer);
  const vector<double> expected = this->WeightGradient(*layer.blobs()[0], 2, 0.5);
  for (int i = 0; i < 24; ++i) {
    EXPECT_NEAR(expected[i], layer.blobs()[0]->cpu_diff()[i], 1e-4 * (100 + std::abs(expected[i])));
  }
}

TYPED_TEST(MarginInnerProductLayerTest, TestSamplesWithoutAClass) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param(this->param_), plain_param(this->param_);
  param.mutable_margin_inner_product_param()->set_type(MarginInnerProductParameter_MarginType_QUADRUPLE);
  plain_param.mutable_margin_inner_product_param()->set_type(MarginInnerProductParameter_MarginType_SINGLE);
  MarginInnerProductLayer<Dtype> layer(param), plain(plain_param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  plain.SetUp(this->bottom_vec_, this->top_vec_);
  Blob<Dtype>* weight = layer.blobs()[0].get();
  caffe_copy(weight->count(), weight->cpu_data(), plain.blobs()[0]->mutable_cpu_data());
  caffe_set(this->label_.count(), Dtype(-1), this->label_.mutable_cpu_data());
  Blob<Dtype>* x = this->bottom_vec_[0];
  Blob<Dtype>* y = this->top_vec_[0];
  Blob<Dtype> scores, dx, dw;
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  for (int k = 0; k < 2; ++k) {
    Layer<Dtype>* of = k == 0 ? static_cast<Layer<Dtype>*>(&plain) : &layer;
    Blob<Dtype>* w = of->blobs()[0].get();
    caffe_set(w->count(), Dtype(0), w->mutable_cpu_diff());
    of->Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < y->count(); ++i) {
      y->mutable_cpu_diff()[i] = (i * 5 % 7) - Dtype(2.5);
    }
    of->Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    if (k == 0) {
      scores.CopyFrom(*y, false, true);
      dx.CopyFrom(*x, true, true);
      dw.CopyFrom(*w, true, true);
    }
  }
  for (int i = 0; i < y->count(); ++i) {
    EXPECT_NEAR(scores.cpu_data()[i], y->cpu_data()[i], 1e-5);
  }
  for (int i = 0; i < x->count(); ++i) {
    EXPECT_NEAR(dx.cpu_diff()[i], x->cpu_diff()[i], 1e-5);
  }
  for (int i = 0; i < weight->count(); ++i) {
    EXPECT_NEAR(dw.cpu_diff()[i], weight->cpu_diff()[i], 1e-5);
  }
}

class MarginInnerProductLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  MarginInnerProductLayerDeathTest() : x_(3, 5, 1, 1), label_(3, 1, 1, 1) {
    param_.set_name("margin");
    param_.set_phase(TRAIN);
    margin_ = param_.mutable_margin_inner_product_param();
    margin_->set_num_output(4);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&top_);
  }

  void Run(bool backward_to_label = false) {
    MarginInnerProductLayer<float> layer(param_);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    vector<bool> propagate_down(2, true);
    propagate_down[1] = backward_to_label;
    layer.Backward(top_vec_, propagate_down, bottom_vec_);
  }

  void RunWithAnotherShape() {
    MarginInnerProductLayer<float> layer(param_);
    layer.SetUp(bottom_vec_, top_vec_);
    x_.Reshape(3, 6, 1, 1);
    layer.Reshape(bottom_vec_, top_vec_);
  }

  LayerParameter param_;
  MarginInnerProductParameter* margin_;
  Blob<float> x_, label_, top_;
  vector<Blob<float>*> bottom_vec_, top_vec_;
};

TEST_F(MarginInnerProductLayerDeathTest, TestRefused) {
  Run();
  EXPECT_FALSE(MarginInnerProductLayer<float>(param_).AllowForceBackward(1));
  EXPECT_DEATH(Run(true), "MarginInnerProduct Layer cannot backpropagate to label inputs");
  EXPECT_DEATH(RunWithAnotherShape(), "margin: expected 5 numbers from axis 1 of bottom 0 on, got 3 6 1 1");
  label_.mutable_cpu_data()[2] = 4;
  EXPECT_DEATH(Run(), "margin: label 4 of sample 2 is out of range; expected 0 to 3");
  label_.Reshape(4, 1, 1, 1);
  EXPECT_DEATH(Run(), "margin: expected 3 labels as bottom 1, got 4 1 1 1");
  margin_->set_lambda_min(-1);
  EXPECT_DEATH(Run(), "margin: expected a lambda_min of 0 or more");
  margin_->clear_num_output();
  EXPECT_DEATH(Run(), "margin: expected a num_output of 1 or more");
}

}  // namespace caffe
