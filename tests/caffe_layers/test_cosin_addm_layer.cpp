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
#include "caffe/layers/cosin_addm_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

static const char* kCosinAddmCases[] = {
  "cosin_add_m_param { m: 0.5 }",
  "cosin_add_m_param { m: 1.2 t: 1.25 }",
  "cosin_add_m_param { m: 0.3 t: 1.1 }",
};
static const int kNumCosinAddmCases = sizeof(kCosinAddmCases) / sizeof(kCosinAddmCases[0]);

template <typename TypeParam>
class CosinAddmLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  CosinAddmLayerTest() {
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

  static double Guarded(double c, double m1, double m2, double m3) {
    const double pi = 3.14159265358979323846;
    const double theta = std::acos(std::min(1., std::max(-1., c)));
    if (m1 * theta + m2 <= pi) {
      return std::cos(m1 * theta + m2) - m3;
    }
    const double last = (pi - m2) / m1;  // from there on as the cosine, joined without a jump
    return c - m2 * std::sin(m2);
  }

  template <typename Number>
  double Expected(int k, const Number* row, int own, int j) const {
    const double margins[] = {0.5, 1.2, 0.3}, ts[] = {1, 1.25, 1.1};
    if (own < 0) {
      return row[j];
    }
    const double score = Guarded(row[own], 1, margins[k], 0);
    if (j == own) {
      return score;
    }
    return row[j] > score ? ts[k] * row[j] + ts[k] - 1 : row[j];
  }


  /// Forward and Backward twice, against the formula and its slope.
  void ExpectFormula(int k, bool in_place) {
    Parse(kCosinAddmCases[k]);
    CosinAddmLayer<Dtype> layer(param_);
    top_vec_[0] = in_place ? &x_ : &y_;
    const vector<Dtype> x = Scores();
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    const int classes = x_.count(1);
    for (int i = 0; i < x_.count(); ++i) {
      EXPECT_NEAR(Expected(k, &x[i / classes * classes], label_.cpu_data()[i / classes], i % classes),
          top_vec_[0]->cpu_data()[i], 5e-5) << kCosinAddmCases[k] << " " << i;
    }
    Backward(&layer);
    for (int i = 0; i < x_.count(); ++i) {
      vector<double> row(x.begin() + i / classes * classes, x.begin() + i / classes * classes + classes);
      double slope = 0;  // of all scores of the row by this one
      for (int j = 0; j < classes; ++j) {
        double ends[2];
        for (int side = 0; side < 2; ++side) {
          vector<double> moved(row);
          moved[i % classes] += side == 0 ? 1e-6 : -1e-6;
          ends[side] = Expected(k, &moved[0], label_.cpu_data()[i / classes], j);
        }
        slope += Slope(i / classes * classes + j) * (ends[0] - ends[1]) / 2e-6;
      }
      EXPECT_NEAR(slope, x_.cpu_diff()[i], 2e-4 * (1 + std::abs(slope))) << kCosinAddmCases[k] << " " << i;
    }
    caffe_copy(x_.count(), &x[0], x_.mutable_cpu_data());
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(CosinAddmLayerTest, TestDtypesAndDevices);

TYPED_TEST(CosinAddmLayerTest, TestFormula) {
  for (int k = 0; k < kNumCosinAddmCases; ++k) {
    this->ExpectFormula(k, false);
  }
}

TYPED_TEST(CosinAddmLayerTest, TestInPlace) {
  for (int k = 0; k < kNumCosinAddmCases; ++k) {
    this->ExpectFormula(k, true);
  }
}

TYPED_TEST(CosinAddmLayerTest, TestSamplesWithoutAClass) {
  this->label_.mutable_cpu_data()[0] = this->label_.mutable_cpu_data()[4] = -1;
  for (int k = 0; k < kNumCosinAddmCases; ++k) {
    this->ExpectFormula(k, false);
  }
}

TYPED_TEST(CosinAddmLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (int k = 0; k < kNumCosinAddmCases; ++k) {
    this->Parse(kCosinAddmCases[k]);
    CosinAddmLayer<Dtype> layer(this->param_);
    GradientChecker<Dtype> checker(1e-3, 2e-2);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(CosinAddmLayerTest, TestCosinesAtAndBeyondOne) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype ends[] = {1, Dtype(1.0001), -1, Dtype(-1.0001), 0};
  for (int k = 0; k < kNumCosinAddmCases; ++k) {
    this->Parse(kCosinAddmCases[k]);
    for (int e = 0; e < 5; ++e) {
      caffe_set(this->x_.count(), ends[e], this->x_.mutable_cpu_data());
      CosinAddmLayer<Dtype> layer(this->param_);
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->Backward(&layer);
      for (int i = 0; i < this->x_.count(); ++i) {
        EXPECT_LT(std::abs(this->y_.cpu_data()[i]), 1e3);
        EXPECT_LT(std::abs(this->x_.cpu_diff()[i]), 1e5);
      }
    }
  }
}

TYPED_TEST(CosinAddmLayerTest, TestTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  for (int acts = 0; acts < 2; ++acts) {
    this->Parse(kCosinAddmCases[0]);
    this->param_.set_phase(TEST);
    this->param_.mutable_cosin_add_m_param()->set_transform_test(acts);
    CosinAddmLayer<Dtype> layer(this->param_);
    this->label_.mutable_cpu_data()[3] = acts ? 1 : 77;  // nothing looks at it unless the layer acts
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double apart = 0;
    for (int i = 0; i < this->x_.count(); ++i) {
      apart += std::abs(this->x_.cpu_data()[i] - this->y_.cpu_data()[i]);
    }
    EXPECT_EQ(acts, apart > 0);
  }
}

}  // namespace caffe
