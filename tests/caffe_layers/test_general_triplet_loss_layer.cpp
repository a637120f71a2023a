#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/general_triplet_loss_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

static LayerParameter TripletParameter(const string& fields, bool exact = false) {
  LayerParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString(fields, param.mutable_general_triplet_loss_param()));
  param.mutable_general_triplet_loss_param()->set_exact_gradient(exact);
  return param;
}

// What the layer should give, from the definition.
struct TripletResult {
  double loss, own_mean, other_mean;
  vector<double> gradient;
};

template <typename Dtype>
static TripletResult TripletFormula(const GeneralTripletParameter& p, const Blob<Dtype>& d,
    const Blob<Dtype>& label) {
  const int rows = d.shape(0);
  const int classes = d.count(1);
  TripletResult result;
  result.loss = result.own_mean = result.other_mean = 0;
  result.gradient.assign(rows * classes, 0);
  for (int i = 0; i < rows; ++i) {
    const Dtype* row = d.cpu_data() + i * classes;
    double* gradient = &result.gradient[i * classes];
    const int y = label.cpu_data()[i];
    const bool beyond_bound = p.positive_first() && row[y] > p.positive_upper_bound();
    result.own_mean += row[y] / rows;
    vector<double> terms(classes, 0);
    int hardest = -1;
    for (int j = 0; j < classes; ++j) {
      if (j != y) {
        result.other_mean += row[j] / rows / std::max(classes - 1, 1);
        terms[j] = static_cast<double>(row[y]) + p.margin() - row[j];
        if (hardest < 0 || terms[j] > terms[hardest]) {
          hardest = j;
        }
      }
    }
    int count = 0;
    for (int j = 0; j < classes; ++j) {
      if (j == y || terms[j] <= 0 || beyond_bound || (p.hardest_only() && j != hardest)) {
        continue;
      }
      ++count;
      result.loss += p.negative_weight() * terms[j] / rows;
      gradient[j] = -p.negative_weight() / rows;
    }
    if (p.exact_gradient()) {
      gradient[y] = p.negative_weight() * count / rows;
    } else if (count > 0 || beyond_bound || p.add_center_loss()) {
      gradient[y] = p.positive_weight() / rows;
    }
  }
  return result;
}

// The defaults, and every option by itself and with others.
static const char* kTripletCases[] = {
  "",
  "margin: 0.8325 add_center_loss: false",
  "margin: -0.8325",
  "margin: -0.8325 add_center_loss: false",
  "margin: -0.8325 add_center_loss: false hardest_only: true",
  "margin: 0.1575 add_center_loss: false hardest_only: true",
  "margin: 0.5625 negative_weight: 0.5 hardest_only: true",
  "margin: 0.5625 positive_first: true positive_upper_bound: 0.7525 add_center_loss: false",
  "margin: 0.5625 positive_first: true positive_upper_bound: 0.2575 hardest_only: true",
  "margin: 0.5625 negative_weight: 0",
};
static const int kNumTripletCases = sizeof(kTripletCases) / sizeof(kTripletCases[0]);

template <typename TypeParam>
class GeneralTripletLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  GeneralTripletLossLayerTest() {
    bottom_vec_.push_back(&d_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
    top_vec_.push_back(&report_);
    // Distances 0.055 + 0.045 k of different k: no kink of the cases above, nor another distance, is nearer than 0.02.
    d_.Reshape(6, 5, 1, 1);
    for (int i = 0; i < 30; ++i) {
      d_.mutable_cpu_data()[i] = 0.055 + 0.045 * (i * 17 % 54);
    }
    const int labels[] = {0, 4, 0, 2, 1, 0};
    label_.Reshape(vector<int>(1, 6));
    for (int i = 0; i < 6; ++i) {
      label_.mutable_cpu_data()[i] = labels[i];
    }
  }

  /// Distances from 0 to 2.2 in steps of 1/64, whose differences are exact.
  void FillMany(int rows, int classes) {
    d_.Reshape(rows, classes, 1, 1);
    label_.Reshape(vector<int>(1, rows));
    for (int i = 0; i < rows * classes; ++i) {
      d_.mutable_cpu_data()[i] = (i * 37 % 141) / Dtype(64);
    }
    for (int i = 0; i < rows; ++i) {
      label_.mutable_cpu_data()[i] = i * 7 % classes;
    }
  }

  void ExpectForward(const TripletResult& expected) {
    EXPECT_EQ(0, loss_.num_axes());
    EXPECT_NEAR(expected.loss, loss_.cpu_data()[0], 1e-5 * (1 + expected.loss));
    if (top_vec_.size() > 1) {
      EXPECT_EQ("2 (2)", report_.shape_string());
      EXPECT_NEAR(expected.own_mean, report_.cpu_data()[0], 1e-5);
      EXPECT_NEAR(expected.other_mean, report_.cpu_data()[1], 1e-5);
    }
  }

  void ExpectBackward(const TripletResult& expected, Layer<Dtype>* layer) {
    loss_.mutable_cpu_diff()[0] = 1.5;
    if (top_vec_.size() > 1) {
      // Published nets give the report a loss_weight.
      caffe_set(report_.count(), Dtype(1), report_.mutable_cpu_diff());
    }
    caffe_set(d_.count(), Dtype(9), d_.mutable_cpu_diff());
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
    for (int i = 0; i < d_.count(); ++i) {
      EXPECT_NEAR(1.5 * expected.gradient[i], d_.cpu_diff()[i], 1e-5) << "at " << i;
    }
  }

  /// Forward and Backward, twice, against the formula.
  void ExpectFormula(const LayerParameter& param) {
    SCOPED_TRACE(param.ShortDebugString());
    const TripletResult expected = TripletFormula(param.general_triplet_loss_param(), d_, label_);
    GeneralTripletLossLayer<Dtype> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(bottom_vec_, top_vec_);
      ExpectForward(expected);
      ExpectBackward(expected, &layer);
    }
  }

  void ExpectFormulas(bool exact) {
    for (int c = 0; c < kNumTripletCases; ++c) {
      for (int phase = 0; phase < 2; ++phase) {
        LayerParameter param = TripletParameter(kTripletCases[c], exact);
        param.set_phase(static_cast<Phase>(phase));
        ExpectFormula(param);
      }
    }
  }

  Blob<Dtype> d_, label_, loss_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(GeneralTripletLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(GeneralTripletLossLayerTest, TestSetUp) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("GeneralTripletLoss");
  {
    shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
    layer->SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_STREQ("GeneralTripletLoss", layer->type());
    EXPECT_EQ(1, layer->loss(0));
    EXPECT_EQ(0, layer->loss(1));
    EXPECT_FALSE(layer->AllowForceBackward(1));
  }
  param.add_loss_weight(0.5);
  param.add_loss_weight(1);
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  layer->SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0.5, layer->loss(0));
  EXPECT_EQ(1, layer->loss(1));
}

TYPED_TEST(GeneralTripletLossLayerTest, TestFormulas) { this->ExpectFormulas(false); }

TYPED_TEST(GeneralTripletLossLayerTest, TestFormulasExact) { this->ExpectFormulas(true); }

TYPED_TEST(GeneralTripletLossLayerTest, TestOneTop) {
  this->top_vec_.resize(1);
  this->ExpectFormulas(false);
}

TYPED_TEST(GeneralTripletLossLayerTest, TestPositiveWeight) {
  this->ExpectFormula(TripletParameter("margin: 0.5625 positive_weight: 3"));
  this->ExpectFormula(TripletParameter("margin: 0.5625 positive_weight: 0 add_center_loss: false"));
}

TYPED_TEST(GeneralTripletLossLayerTest, TestGradients) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.resize(1);
  for (int c = 0; c < kNumTripletCases; ++c) {
    const LayerParameter param = TripletParameter(kTripletCases[c], true);
    SCOPED_TRACE(param.ShortDebugString());
    GeneralTripletLossLayer<Dtype> layer(param);
    GradientChecker<Dtype> checker(5e-3, 3e-3);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(GeneralTripletLossLayerTest, TestForkGradientIsNotTheDerivative) {
  typedef typename TypeParam::Dtype Dtype;
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  this->FillMany(1, 5);
  caffe_set(5, Dtype(0.5), this->d_.mutable_cpu_data());  // four terms
  for (int exact = 0; exact < 2; ++exact) {
    GeneralTripletLossLayer<Dtype> layer(TripletParameter("", exact));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    EXPECT_EQ(exact ? 4 : 1, this->d_.cpu_diff()[0]);
    EXPECT_EQ(-1, this->d_.cpu_diff()[1]);
  }
}

TYPED_TEST(GeneralTripletLossLayerTest, TestManyClassesAndReshape) {
  typedef typename TypeParam::Dtype Dtype;
  const char* cases[] = {
    "margin: 0.2421875 negative_weight: 0.5",
    "margin: 0.2421875 hardest_only: true add_center_loss: false",
    "margin: -1.5078125 positive_first: true positive_upper_bound: 2 add_center_loss: false",
  };
  const int rows[] = {37, 300, 2};
  for (int exact = 0; exact < 2; ++exact) {
    for (int c = 0; c < 3; ++c) {
      const LayerParameter param = TripletParameter(cases[c], exact);
      GeneralTripletLossLayer<Dtype> layer(param);
      for (int b = 0; b < 3; ++b) {
        this->FillMany(rows[b], 1003);
        if (b == 0) {
          layer.SetUp(this->bottom_vec_, this->top_vec_);
        } else {
          layer.Reshape(this->bottom_vec_, this->top_vec_);
        }
        const TripletResult expected = TripletFormula(param.general_triplet_loss_param(), this->d_, this->label_);
        layer.Forward(this->bottom_vec_, this->top_vec_);
        this->ExpectForward(expected);
        this->ExpectBackward(expected, &layer);
      }
    }
  }
}

TYPED_TEST(GeneralTripletLossLayerTest, TestOneSampleOneClassAndNoDistance) {
  typedef typename TypeParam::Dtype Dtype;
  const int shapes[][2] = {{1, 5}, {6, 1}, {1, 1}, {6, 5}};
  for (int s = 0; s < 4; ++s) {
    for (int zero = 0; zero < 2; ++zero) {
      this->FillMany(shapes[s][0], shapes[s][1]);
      if (zero) {
        caffe_set(this->d_.count(), Dtype(0), this->d_.mutable_cpu_data());
      }
      this->ExpectFormulas(false);
      this->ExpectFormulas(true);
    }
  }
}

TYPED_TEST(GeneralTripletLossLayerTest, TestTwoAxes) {
  vector<int> shape(2, 6);
  shape[1] = 5;
  this->d_.Reshape(shape);
  this->ExpectFormulas(false);
}

TYPED_TEST(GeneralTripletLossLayerTest, TestGradientThatNobodyAsksFor) {
  typedef typename TypeParam::Dtype Dtype;
  GeneralTripletLossLayer<Dtype> layer(TripletParameter(""));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->d_.count(), Dtype(8), this->d_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
  for (int i = 0; i < this->d_.count(); ++i) {
    EXPECT_EQ(8, this->d_.cpu_diff()[i]);
  }
}

TYPED_TEST(GeneralTripletLossLayerTest, TestSamplesWithoutAClass) {
  typedef typename TypeParam::Dtype Dtype;
  const int rows[] = {0, 2, 3, 5};
  this->label_.mutable_cpu_data()[1] = this->label_.mutable_cpu_data()[4] = -1;
  Blob<Dtype> d(4, 5, 1, 1), label(vector<int>(1, 4)), loss, report;  // without them
  for (int i = 0; i < 4; ++i) {
    caffe_copy(5, this->d_.cpu_data() + 5 * rows[i], d.mutable_cpu_data() + 5 * i);
    label.mutable_cpu_data()[i] = this->label_.cpu_data()[rows[i]];
  }
  vector<Blob<Dtype>*> bottom(1, &d), top(1, &loss);
  bottom.push_back(&label);
  top.push_back(&report);
  for (int k = 0; k < kNumTripletCases; ++k) {
    const LayerParameter param = TripletParameter(kTripletCases[k]);
    GeneralTripletLossLayer<Dtype> layer(param), other(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    other.SetUp(bottom, top);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    other.Forward(bottom, top);
    EXPECT_NEAR(loss.cpu_data()[0], this->loss_.cpu_data()[0], 1e-5);
    for (int j = 0; j < report.count(); ++j) {
      EXPECT_NEAR(report.cpu_data()[j], this->report_.cpu_data()[j], 1e-5);
    }
    this->loss_.mutable_cpu_diff()[0] = loss.mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    other.Backward(top, propagate_down, bottom);
    for (int j = 0; j < 5; ++j) {
      EXPECT_EQ(0, this->d_.cpu_diff()[5 + j]);
      EXPECT_EQ(0, this->d_.cpu_diff()[20 + j]);
      for (int i = 0; i < 4; ++i) {
        EXPECT_NEAR(d.cpu_diff()[5 * i + j], this->d_.cpu_diff()[5 * rows[i] + j], 1e-6);
      }
    }
  }
  caffe_set(6, Dtype(-1), this->label_.mutable_cpu_data());
  GeneralTripletLossLayer<Dtype> layer(TripletParameter(""));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, this->loss_.cpu_data()[0]);
}

TYPED_TEST(GeneralTripletLossLayerTest, TestNaNIsTheLoss) {
  typedef typename TypeParam::Dtype Dtype;
  for (int at = 0; at < 30; ++at) {
    const Dtype d = this->d_.cpu_data()[at];
    this->d_.mutable_cpu_data()[at] = std::numeric_limits<Dtype>::quiet_NaN();
    for (int k = 0; k < kNumTripletCases; ++k) {
      GeneralTripletLossLayer<Dtype> layer(TripletParameter(kTripletCases[k]));
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      EXPECT_NE(this->loss_.cpu_data()[0], this->loss_.cpu_data()[0]) << kTripletCases[k] << " " << at;
    }
    this->d_.mutable_cpu_data()[at] = d;
  }
}

class GeneralTripletLossLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  GeneralTripletLossLayerDeathTest() : d_(6, 5, 1, 1), label_(vector<int>(1, 6)) {
    bottom_vec_.push_back(&d_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
  }

  void Run(const string& fields, bool exact = false, int back_to = 0) {
    LayerParameter param = TripletParameter(fields, exact);
    param.set_name("gt");
    GeneralTripletLossLayer<float> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    vector<bool> propagate_down(2, false);
    propagate_down[back_to] = true;
    layer.Backward(top_vec_, propagate_down, bottom_vec_);
  }

  Blob<float> d_, label_, loss_;
  vector<Blob<float>*> bottom_vec_, top_vec_;
};

TEST_F(GeneralTripletLossLayerDeathTest, TestParameters) {
  EXPECT_DEATH(Run("positive_weight: -1"), "gt: expected a positive_weight of 0 or more");
  EXPECT_DEATH(Run("negative_weight: -1"), "gt: expected a negative_weight of 0 or more");
  EXPECT_DEATH(Run("positive_weight: 2", true), "gt: positive_weight changes the gradient only");
}

TEST_F(GeneralTripletLossLayerDeathTest, TestLabels) {
  label_.mutable_cpu_data()[1] = 5;
  EXPECT_DEATH(Run(""), "gt: label 5 of sample 1 is out of range; expected 0 to 4");
  label_.mutable_cpu_data()[1] = 0;
  EXPECT_DEATH(Run("", false, 1), "GeneralTripletLoss Layer cannot backpropagate to label inputs");
}

TEST_F(GeneralTripletLossLayerDeathTest, TestShapes) {
  label_.Reshape(vector<int>(1, 4));
  EXPECT_DEATH(Run(""), "gt: expected a label for each row of bottom 0, 6 5 1 1 .30., got 4");
  d_.Reshape(vector<int>(1, 6));
  EXPECT_DEATH(Run(""), "gt: expected distances .N, C. as bottom 0, got 6");
}

}  // namespace caffe
