#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/general_contrastive_loss_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

static LayerParameter ContrastiveParameter(const string& fields, bool exact = false) {
  LayerParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString(fields, param.mutable_general_contrastive_loss_param()));
  param.mutable_general_contrastive_loss_param()->set_exact_gradient(exact);
  return param;
}

// What the layer should give, from the definition.
struct ContrastiveResult {
  double loss, positive_mean, negative_mean;
  vector<double> gradient;
};

template <typename Dtype>
static ContrastiveResult ContrastiveFormula(const GeneralContrastiveParameter& p, double margin, const Blob<Dtype>& d,
    const Blob<Dtype>& label) {
  const int rows = d.shape(0);
  const int classes = d.count(1);
  ContrastiveResult result;
  result.loss = result.positive_mean = result.negative_mean = 0;
  result.gradient.assign(rows * classes, 0);
  vector<double> clipped(rows);
  for (int i = 0; i < rows; ++i) {
    const double beyond = d.cpu_data()[i * classes + static_cast<int>(label.cpu_data()[i])]
        - static_cast<double>(p.positive_margin());
    clipped[i] = std::min(std::max(beyond, 0.), static_cast<double>(p.positive_outlier_thresh()));
    result.positive_mean += clipped[i] / rows;
  }
  const int smallest = std::min_element(clipped.begin(), clipped.end()) - clipped.begin();
  double pushes = 0;
  for (int i = 0; i < rows; ++i) {
    const Dtype* row = d.cpu_data() + i * classes;
    double* gradient = &result.gradient[i * classes];
    const int y = label.cpu_data()[i];
    const bool beyond_bound = p.positive_first() && row[y] > p.positive_upper_bound();
    const bool counts = !p.max_positive_only() || i == smallest;
    if (counts) {
      result.loss += p.positive_weight() * clipped[i] / rows;
    }
    if (p.exact_gradient()) {
      gradient[y] = counts && clipped[i] > 0 && clipped[i] < p.positive_outlier_thresh() ? p.positive_weight() : 0;
    } else {
      const bool inside = row[y] > p.positive_margin() && row[y] < p.positive_outlier_thresh();
      gradient[y] = (counts && inside) || beyond_bound ? p.positive_weight() : 0;
    }
    vector<double> terms(classes, -1);
    int best = -1;
    for (int j = 0; j < classes; ++j) {
      if (j != y && row[j] < margin) {
        result.negative_mean += (margin - row[j]) / rows / std::max(classes - 1, 1);
        const double term = p.exp_negative_weight() ? std::exp(-static_cast<double>(row[j])) : margin - row[j];
        terms[j] = p.negative_weight() * term;
        if (best < 0 || terms[j] > terms[best]) {
          best = j;
        }
      }
    }
    const bool beaten = best >= 0 && y == 0 && terms[best] <= p.positive_weight() * clipped[i];
    for (int j = 0; j < classes; ++j) {
      if (terms[j] < 0 || beyond_bound || (p.max_negative_only() && (j != best || beaten))) {
        continue;
      }
      result.loss += terms[j] / rows;
      gradient[j] = -(p.exp_negative_weight() ? terms[j] : static_cast<double>(p.negative_weight()));
      pushes -= gradient[j];
    }
  }
  double factor = 1;
  if (p.has_normalize_negative() && pushes / p.normalize_negative() / rows > p.positive_weight()) {
    factor = p.normalize_negative() * rows / pushes;
  }
  for (int i = 0; i < rows * classes; ++i) {
    result.gradient[i] *= (result.gradient[i] < 0 ? factor : 1) / rows;
  }
  return result;
}

// The defaults, and every option by itself and with others.
static const char* kContrastiveCases[] = {
  "",
  "positive_margin: 0.515 negative_margin: 1.515 positive_weight: 2 negative_weight: 0.5",
  "positive_margin: 0.515 positive_outlier_thresh: 1.24",
  "exp_negative_weight: true negative_weight: 0.75",
  "max_negative_only: true negative_margin: 1.515",
  "max_negative_only: true exp_negative_weight: true negative_margin: 1.515",
  "max_positive_only: true positive_weight: 0.5",
  "max_positive_only: true positive_margin: 0.515",
  "positive_first: true positive_upper_bound: 0.755 positive_outlier_thresh: 1.235",
  "positive_first: true max_positive_only: true max_negative_only: true negative_margin: 2.035",
  "add_intra_mae: true",
  "positive_weight: 0 negative_weight: 0",
};
static const int kNumContrastiveCases = sizeof(kContrastiveCases) / sizeof(kContrastiveCases[0]);

template <typename TypeParam>
class GeneralContrastiveLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  GeneralContrastiveLossLayerTest() {
    bottom_vec_.push_back(&d_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
    top_vec_.push_back(&report_);
    // Distances 0.055 + 0.04 k of different k, so that the kinks of the cases above are 0.005 away or more, as are
    // different distances from each other.
    d_.Reshape(6, 5, 1, 1);
    for (int i = 0; i < 30; ++i) {
      d_.mutable_cpu_data()[i] = 0.055 + 0.04 * (i * 17 % 54);
    }
    d_.mutable_cpu_data()[10] = 0.055 + 0.04 * 58;
    // With class 0 as the label: its term once below all others (sample 0), once above (sample 2).
    const int labels[] = {0, 4, 0, 2, 1, 0};
    label_.Reshape(vector<int>(1, 6));
    for (int i = 0; i < 6; ++i) {
      label_.mutable_cpu_data()[i] = labels[i];
    }
  }

  /// Distances from 0 to 2.2 in steps of 1/64, of which sums of a few are exact.
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

  void ExpectForward(const ContrastiveResult& expected) {
    EXPECT_EQ(0, loss_.num_axes());
    EXPECT_NEAR(expected.loss, loss_.cpu_data()[0], 1e-5 * (1 + expected.loss));
    if (top_vec_.size() > 1) {
      EXPECT_NEAR(expected.positive_mean, report_.cpu_data()[0], 1e-5);
      EXPECT_NEAR(expected.negative_mean, report_.cpu_data()[1], 1e-5);
    }
  }

  void ExpectBackward(const ContrastiveResult& expected, Layer<Dtype>* layer) {
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

  /// Forward (twice, if nothing changes) and Backward against the formula.
  void ExpectFormula(const LayerParameter& param) {
    SCOPED_TRACE(param.ShortDebugString());
    const GeneralContrastiveParameter& p = param.general_contrastive_loss_param();
    const ContrastiveResult expected = ContrastiveFormula(p, p.negative_margin(), d_, label_);
    GeneralContrastiveLossLayer<Dtype> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    const int passes = p.add_intra_mae() && param.phase() == TRAIN ? 1 : 2;
    for (int pass = 0; pass < passes; ++pass) {
      layer.Forward(bottom_vec_, top_vec_);
      ExpectForward(expected);
      ExpectBackward(expected, &layer);
    }
  }

  void ExpectFormulas(bool exact) {
    for (int c = 0; c < kNumContrastiveCases; ++c) {
      for (int phase = 0; phase < 2; ++phase) {
        LayerParameter param = ContrastiveParameter(kContrastiveCases[c], exact);
        param.set_phase(static_cast<Phase>(phase));
        ExpectFormula(param);
      }
    }
  }

  Blob<Dtype> d_, label_, loss_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(GeneralContrastiveLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(GeneralContrastiveLossLayerTest, TestSetUp) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("GeneralContrastiveLoss");
  {
    shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
    layer->SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_STREQ("GeneralContrastiveLoss", layer->type());
    EXPECT_EQ(1, layer->loss(0));
    EXPECT_EQ(0, layer->loss(1));
    EXPECT_EQ("2 (2)", this->report_.shape_string());
    EXPECT_FALSE(layer->AllowForceBackward(1));
  }
  param.add_loss_weight(0.5);
  param.add_loss_weight(1);
  param.mutable_general_contrastive_loss_param()->set_add_intra_mae(true);
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  layer->SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0.5, layer->loss(0));
  EXPECT_EQ(1, layer->loss(1));
  EXPECT_EQ("3 (3)", this->report_.shape_string());
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestFormulas) { this->ExpectFormulas(false); }

TYPED_TEST(GeneralContrastiveLossLayerTest, TestFormulasExact) { this->ExpectFormulas(true); }

TYPED_TEST(GeneralContrastiveLossLayerTest, TestOneTop) {
  this->top_vec_.resize(1);
  this->ExpectFormulas(false);
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestNormalizeNegative) {
  this->ExpectFormula(ContrastiveParameter("normalize_negative: 0.5"));
  this->ExpectFormula(ContrastiveParameter("normalize_negative: 2 exp_negative_weight: true positive_weight: 0.125"));
  this->ExpectFormula(ContrastiveParameter("normalize_negative: 0.25 max_negative_only: true"));
  this->ExpectFormula(ContrastiveParameter("normalize_negative: 0.25 positive_first: true negative_weight: 3"));
  this->ExpectFormula(ContrastiveParameter("normalize_negative: 64"));
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestGradients) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.resize(1);
  for (int c = 0; c < kNumContrastiveCases; ++c) {
    LayerParameter param = ContrastiveParameter(kContrastiveCases[c], true);
    param.set_phase(TEST);  // the running mean stays
    SCOPED_TRACE(param.ShortDebugString());
    GeneralContrastiveLossLayer<Dtype> layer(param);
    GradientChecker<Dtype> checker(2e-3, 3e-3);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestForkGradientIsNotTheDerivative) {
  typedef typename TypeParam::Dtype Dtype;
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  this->d_.mutable_cpu_data()[0] = 1.5;  // sample 0, of class 0: between thresh and margin + thresh
  const char* fields = "positive_margin: 0.515 positive_outlier_thresh: 1.24";
  for (int exact = 0; exact < 2; ++exact) {
    GeneralContrastiveLossLayer<Dtype> layer(ContrastiveParameter(fields, exact));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    EXPECT_NEAR(exact ? 1. / 6 : 0., this->d_.cpu_diff()[0], 1e-6);
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestLabelsClass0CompetesForTheLargestNegative) {
  typedef typename TypeParam::Dtype Dtype;
  vector<bool> propagate_down(2, false);
  propagate_down[0] = true;
  GeneralContrastiveLossLayer<Dtype> layer(ContrastiveParameter("max_negative_only: true negative_margin: 1.515"));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
  for (int i = 0; i < 3; i += 2) {
    int pushed = 0;
    for (int j = 0; j < 5; ++j) {
      pushed += this->d_.cpu_diff()[i * 5 + j] < 0;
    }
    EXPECT_EQ(i == 0 ? 1 : 0, pushed);
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestManyClassesAndReshape) {
  typedef typename TypeParam::Dtype Dtype;
  const char* cases[] = {
    "positive_margin: 0.1875 negative_margin: 1.5",
    "exp_negative_weight: true normalize_negative: 32",
    "max_negative_only: true positive_first: true positive_upper_bound: 1.5 max_positive_only: true",
  };
  const int rows[] = {37, 300, 2};
  for (int c = 0; c < 3; ++c) {
    const LayerParameter param = ContrastiveParameter(cases[c]);
    const GeneralContrastiveParameter& p = param.general_contrastive_loss_param();
    GeneralContrastiveLossLayer<Dtype> layer(param);
    for (int b = 0; b < 3; ++b) {
      this->FillMany(rows[b], 1003);
      if (b == 0) {
        layer.SetUp(this->bottom_vec_, this->top_vec_);
      } else {
        layer.Reshape(this->bottom_vec_, this->top_vec_);
      }
      const ContrastiveResult expected = ContrastiveFormula(p, p.negative_margin(), this->d_, this->label_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectForward(expected);
      this->ExpectBackward(expected, &layer);
    }
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestOneSampleOneClassAndNoDistance) {
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
      this->ExpectFormula(ContrastiveParameter("normalize_negative: 0.5"));
    }
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestTwoAxes) {
  vector<int> shape(2, 6);
  shape[1] = 5;
  this->d_.Reshape(shape);
  this->ExpectFormulas(false);
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestRunningMean) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = ContrastiveParameter(
      "add_intra_mae: true negative_margin: 0.5 max_negative_margin: 0.03125");
  const GeneralContrastiveParameter& p = param.general_contrastive_loss_param();
  GeneralContrastiveLossLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  double running = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const ContrastiveResult expected = ContrastiveFormula(p, 0.5 + running, this->d_, this->label_);
    running = std::min(0.99 * running + 0.01 * expected.positive_mean, 0.03125);
    layer.Reshape(this->bottom_vec_, this->top_vec_);  // as a net does before every pass
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectForward(expected);
    EXPECT_NEAR(running, this->report_.cpu_data()[2], 1e-6);
    // Of this pass's margin, twice.
    this->ExpectBackward(expected, &layer);
    this->ExpectBackward(expected, &layer);
  }
  EXPECT_NEAR(0.03125, this->report_.cpu_data()[2], 1e-6);
  param.set_phase(TEST);
  GeneralContrastiveLossLayer<Dtype> test_layer(param);
  test_layer.SetUp(this->bottom_vec_, this->top_vec_);
  for (int pass = 0; pass < 2; ++pass) {
    test_layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(0, this->report_.cpu_data()[2]);
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestGradientThatNobodyAsksFor) {
  typedef typename TypeParam::Dtype Dtype;
  GeneralContrastiveLossLayer<Dtype> layer(ContrastiveParameter(""));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->d_.count(), Dtype(8), this->d_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
  for (int i = 0; i < this->d_.count(); ++i) {
    EXPECT_EQ(8, this->d_.cpu_diff()[i]);
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestSamplesWithoutAClass) {
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
  for (int k = 0; k < kNumContrastiveCases; ++k) {
    const LayerParameter param = ContrastiveParameter(kContrastiveCases[k]);
    GeneralContrastiveLossLayer<Dtype> layer(param), other(param);
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
  GeneralContrastiveLossLayer<Dtype> layer(ContrastiveParameter(""));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, this->loss_.cpu_data()[0]);
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestNaNIsTheLoss) {
  typedef typename TypeParam::Dtype Dtype;
  for (int at = 0; at < 30; ++at) {
    const Dtype d = this->d_.cpu_data()[at];
    this->d_.mutable_cpu_data()[at] = std::numeric_limits<Dtype>::quiet_NaN();
    for (int k = 0; k < kNumContrastiveCases; ++k) {
      GeneralContrastiveLossLayer<Dtype> layer(ContrastiveParameter(kContrastiveCases[k]));
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      EXPECT_NE(this->loss_.cpu_data()[0], this->loss_.cpu_data()[0]) << kContrastiveCases[k] << " " << at;
    }
    this->d_.mutable_cpu_data()[at] = d;
  }
}

TYPED_TEST(GeneralContrastiveLossLayerTest, TestGradientOfOtherDistances) {
  typedef typename TypeParam::Dtype Dtype;
  Blob<Dtype> others(6, 5, 1, 1), own(6, 5, 1, 1);
  for (int i = 0; i < 30; ++i) {
    others.mutable_cpu_data()[i] = 0.055 + 0.04 * (i * 23 % 54);
  }
  const char* cases[] = {"", "positive_margin: 0.515 negative_margin: 1.515", "exp_negative_weight: true",
      "positive_first: true positive_upper_bound: 0.755", "exp_negative_weight: true normalize_negative: 0.5"};
  for (int k = 0; k < 5; ++k) {
    const LayerParameter param = ContrastiveParameter(cases[k]);
    GeneralContrastiveLossLayer<Dtype> layer(param), plain(param), swapped(param);
    vector<Blob<Dtype>*> bottom(this->bottom_vec_), top(this->top_vec_);
    vector<bool> propagate_down(3, false);
    propagate_down[0] = true;
    // The loss is that of bottom 0, the gradient that of bottom 2 by itself.
    plain.SetUp(bottom, top);
    plain.Forward(bottom, top);
    const Dtype loss = this->loss_.cpu_data()[0];
    vector<Blob<Dtype>*> alone(1, &others);
    alone.push_back(&this->label_);
    swapped.SetUp(alone, top);
    swapped.Forward(alone, top);
    this->loss_.mutable_cpu_diff()[0] = 0.5;
    swapped.Backward(top, propagate_down, alone);
    caffe_copy(30, others.cpu_diff(), own.mutable_cpu_data());
    bottom.push_back(&others);
    layer.SetUp(bottom, top);
    layer.Forward(bottom, top);
    EXPECT_NEAR(loss, this->loss_.cpu_data()[0], 1e-6);
    this->loss_.mutable_cpu_diff()[0] = 0.5;
    propagate_down[2] = true;
    layer.Backward(top, propagate_down, bottom);
    for (int i = 0; i < 30; ++i) {
      EXPECT_NEAR(own.cpu_data()[i], this->d_.cpu_diff()[i], 1e-6) << cases[k];
    }
    EXPECT_EQ(0, others.asum_diff());
  }
}

class GeneralContrastiveLossLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  GeneralContrastiveLossLayerDeathTest() : d_(6, 5, 1, 1), label_(vector<int>(1, 6)) {
    bottom_vec_.push_back(&d_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
  }

  void Run(const string& fields, bool exact = false, int back_to = 0) {
    LayerParameter param = ContrastiveParameter(fields, exact);
    param.set_name("gc");
    GeneralContrastiveLossLayer<float> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    vector<bool> propagate_down(2, false);
    propagate_down[back_to] = true;
    layer.Backward(top_vec_, propagate_down, bottom_vec_);
  }

  Blob<float> d_, label_, loss_;
  vector<Blob<float>*> bottom_vec_, top_vec_;
};

TEST_F(GeneralContrastiveLossLayerDeathTest, TestParameters) {
  EXPECT_DEATH(Run("square: true"), "gc: square is not supported");
  EXPECT_DEATH(Run("positive_weight: -1"), "gc: expected a positive_weight of 0 or more");
  EXPECT_DEATH(Run("negative_weight: -1"), "gc: expected a negative_weight of 0 or more");
  EXPECT_DEATH(Run("positive_outlier_thresh: -1"), "gc: expected a positive_outlier_thresh of 0 or more");
  EXPECT_DEATH(Run("normalize_negative: 0"), "gc: expected a normalize_negative above 0");
  EXPECT_DEATH(Run("normalize_negative: 1", true), "gc: normalize_negative changes the gradient only");
}

TEST_F(GeneralContrastiveLossLayerDeathTest, TestLabels) {
  label_.mutable_cpu_data()[1] = 5;
  EXPECT_DEATH(Run(""), "gc: label 5 of sample 1 is out of range; expected 0 to 4");
  label_.mutable_cpu_data()[1] = 0;
  EXPECT_DEATH(Run("", false, 1), "GeneralContrastiveLoss Layer cannot backpropagate to label inputs");
}

TEST_F(GeneralContrastiveLossLayerDeathTest, TestShapes) {
  label_.Reshape(vector<int>(1, 4));
  EXPECT_DEATH(Run(""), "gc: expected a label for each row of bottom 0, 6 5 1 1 .30., got 4");
  d_.Reshape(vector<int>(1, 6));
  EXPECT_DEATH(Run(""), "gc: expected distances .N, C. as bottom 0, got 6");
}

}  // namespace caffe
