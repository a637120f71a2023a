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
#include "caffe/layers/rank_hard_loss_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class RankHardLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  RankHardLossLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(8, 3), &x_);
    const int labels[] = {0, 0, 1, 1, 2, 2, 3, 3};
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

  double Dot(int a, int b) const {
    double sum = 0;
    for (int k = 0; k < 3; ++k) {
      sum += static_cast<double>(x_.cpu_data()[a * 3 + k]) * x_.cpu_data()[b * 3 + k];
    }
    return sum;
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(RankHardLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(RankHardLossLayerTest, TestForwardAndGradient) {
  typedef typename TypeParam::Dtype Dtype;
  const char* cases[] = {"neg_num: 6 margin: 0.5", "neg_num: 2 hard_ratio: 1 margin: 0.5",
      "neg_num: 1 hard_ratio: 1 margin: 0.2"};
  const int counts[] = {6, 2, 1};
  const double margins[] = {0.5, 0.5, 0.2};
  for (int k = 0; k < 3; ++k) {
    this->Parse(string("rank_hard_loss_param { pair_size: 2 ") + cases[k] + " }");
    RankHardLossLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double loss = 0;
    for (int a = 0; a < 8; a += 2) {
      vector<std::pair<double, int> > order;
      for (int j = 0; j < 8; ++j) {
        if (this->label_.cpu_data()[j] != this->label_.cpu_data()[a]
            && this->Dot(a, j) - this->Dot(a, a + 1) + margins[k] > 0) {
          order.push_back(std::make_pair(-this->Dot(a, j), j));
        }
      }
      std::sort(order.begin(), order.end());
      for (int n = 0; n < std::min<int>(counts[k], order.size()); ++n) {
        const int j = order[n].second;
        loss += this->Dot(a, j) - this->Dot(a, a + 1) + margins[k];
        loss += std::max(0., this->Dot(a + 1, j) - this->Dot(a, a + 1) + margins[k]);
      }
    }
    EXPECT_NEAR(loss / (counts[k] * 8), this->y_.cpu_data()[0], 1e-4);
    GradientChecker<Dtype> checker(1e-3, 1e-2);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
  }
}

TYPED_TEST(RankHardLossLayerTest, TestRandomNegatives) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("rank_hard_loss_param { pair_size: 2 neg_num: 2 hard_ratio: 0.5 rand_ratio: 0.5 margin: 9 }");
  RankHardLossLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  double least = 1e9, most = 0;
  for (int pass = 0; pass < 30; ++pass) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    least = std::min<double>(least, this->y_.cpu_data()[0]);
    most = std::max<double>(most, this->y_.cpu_data()[0]);
  }
  EXPECT_LT(least, most);  // others each time
  // 2 of every anchor's 6, of which each term is 9 and a few dot products.
  EXPECT_NEAR(9, least, 6);
  EXPECT_NEAR(9, most, 6);
}

TYPED_TEST(RankHardLossLayerTest, TestSamplesWithoutAClassAndNaN) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("rank_hard_loss_param { pair_size: 2 neg_num: 6 margin: 9 }");
  caffe_set(8, Dtype(-1), this->label_.mutable_cpu_data());
  RankHardLossLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  EXPECT_EQ(0, this->y_.cpu_data()[0]);
  EXPECT_EQ(0, this->x_.asum_diff());
  for (int i = 0; i < 8; ++i) {
    this->label_.mutable_cpu_data()[i] = i / 2;
  }
  this->x_.mutable_cpu_data()[5] = std::numeric_limits<Dtype>::quiet_NaN();
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NE(this->y_.cpu_data()[0], this->y_.cpu_data()[0]);
}

TYPED_TEST(RankHardLossLayerTest, TestRefused) {
  typedef typename TypeParam::Dtype Dtype;
  if (Caffe::mode() == Caffe::GPU) {
    return;
  }
  this->Parse("");
  RankHardLossLayer<Dtype> layer(this->param_);
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_), "expected a pair_size of 2 or more");
  this->Parse("rank_hard_loss_param { pair_size: 3 }");
  RankHardLossLayer<Dtype> odd(this->param_);
  EXPECT_DEATH(odd.SetUp(this->bottom_vec_, this->top_vec_), "expected a batch of a multiple of 3 samples");
}

}  // namespace caffe
