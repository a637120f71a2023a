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
#include "caffe/layers/range_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class RangeLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  RangeLossLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(8, 3), &x_);
    const int labels[] = {0, 1, 0, 0, -1, 1, 2, 0};
    SetLabels(labels, 8);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  void Parse(const string& text) {
    param_.Clear();
    param_.set_phase(TRAIN);
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param_));
  }

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
  /// Forward and Backward with the loss_weight 0.5; the gradients in x.
  void Run(Layer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    top_vec_[0]->mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  double Squared(int a, int b) const {
    double sum = 0;
    for (int k = 0; k < 3; ++k) {
      const double apart = static_cast<double>(x_.cpu_data()[a * 3 + k]) - x_.cpu_data()[b * 3 + k];
      sum += apart * apart;
    }
    return sum;
  }
  double Center(int c, int d) const {
    double sum = 0;
    int count = 0;
    for (int i = 0; i < 8; ++i) {
      if (label_.cpu_data()[i] == c) {
        sum += x_.cpu_data()[i * 3 + d];
        ++count;
      }
    }
    return sum / count;
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(RangeLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(RangeLossLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int k = 1; k < 4; ++k) {
    this->Parse(string("range_loss_param { choose_k: ") + (k == 1 ? "1" : k == 2 ? "2" : "9")
        + " intra_weight: 0.5 inter_weight: 2 margin: 8 }");
    RangeLossLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double loss = 0, nearest = 1e9;
    for (int c = 0; c < 3; ++c) {
      vector<double> inverse;
      for (int i = 0; i < 8; ++i) {
        for (int j = i + 1; j < 8; ++j) {
          if (this->label_.cpu_data()[i] == c && this->label_.cpu_data()[j] == c) {
            inverse.push_back(1 / this->Squared(i, j));
          }
        }
      }
      std::sort(inverse.begin(), inverse.end());
      inverse.resize(std::min<int>(inverse.size(), k == 3 ? 9 : k));
      double sum = 0;
      for (int n = 0; n < inverse.size(); ++n) {
        sum += inverse[n];
      }
      loss += inverse.empty() ? 0 : 0.5 * inverse.size() / sum;
      for (int other = 0; other < c; ++other) {
        double distance = 0;
        for (int d = 0; d < 3; ++d) {
          const double apart = this->Center(c, d) - this->Center(other, d);
          distance += apart * apart;
        }
        nearest = std::min(nearest, distance);
      }
    }
    EXPECT_LT(nearest, 8);
    EXPECT_NEAR(loss + 2 * (8 - nearest), this->y_.cpu_data()[0], 1e-3);
  }
}

TYPED_TEST(RangeLossLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  const char* cases[] = {"intra_weight: 0.5 inter_weight: 2 margin: 8 choose_k: 1",
      "intra_weight: 0.5 inter_weight: 2 margin: 8 choose_k: 3", "intra_weight: 0.5 inter_weight: 0 choose_k: 9",
      "intra_weight: 0 inter_weight: 2 margin: 8", "intra_weight: 0.5 inter_weight: 2 margin: 0"};
  for (int k = 0; k < 5; ++k) {
    this->Parse(string("range_loss_param { ") + cases[k] + " }");
    RangeLossLayer<Dtype> layer(this->param_);
    GradientChecker<Dtype> checker(1e-3, 1e-2);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(RangeLossLayerTest, TestEqualSamplesAndNaN) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("range_loss_param { intra_weight: 0.5 margin: 0 }");
  caffe_set(24, Dtype(0.5), this->x_.mutable_cpu_data());
  RangeLossLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  EXPECT_EQ(0, this->y_.cpu_data()[0]);
  EXPECT_EQ(0, this->x_.asum_diff());
  this->x_.mutable_cpu_data()[5] = std::numeric_limits<Dtype>::quiet_NaN();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NE(this->y_.cpu_data()[0], this->y_.cpu_data()[0]);
}

}  // namespace caffe
