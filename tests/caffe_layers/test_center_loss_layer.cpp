#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/center_loss_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class CenterLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  CenterLossLayerTest() {
    bottom_vec_.push_back(&f_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
    const int labels[] = {2, 0, 2, 3, 2};
    Fill(labels, 5, 2, 3);
  }

  /// Samples of channels * height numbers, multiples of 1/4, while the centers are odd multiples of 1/8: no f is a c.
  void Fill(const int* labels, int num, int channels, int height) {
    f_.Reshape(num, channels, height, 1);
    label_.Reshape(vector<int>(1, num));
    for (int i = 0; i < f_.count(); ++i) {
      f_.mutable_cpu_data()[i] = (i * 7 % 23 - 11) / Dtype(4);
    }
    for (int i = 0; i < num; ++i) {
      label_.mutable_cpu_data()[i] = labels[i];
    }
  }

  LayerParameter Parameter(const string& type, CenterLossParameter_CenterStep step, int classes = 4) {
    LayerParameter param;
    CenterLossParameter* center = param.mutable_center_loss_param();
    center->set_num_output(classes);
    center->set_distance_type(type);
    center->set_center_step(step);
    return param;
  }

  static void FillCenters(Blob<Dtype>* centers) {
    for (int i = 0; i < centers->count(); ++i) {
      centers->mutable_cpu_data()[i] = (i * 5 % 13 - 6) / Dtype(4) + Dtype(0.125);
    }
  }

  /// Forward twice and Backward `passes` times, against the formulas; the loss has the weight 0.5.
  void ExpectFormula(const string& type, CenterLossParameter_CenterStep step, int classes, int passes) {
    CenterLossLayer<Dtype> layer(Parameter(type, step, classes));
    layer.SetUp(bottom_vec_, top_vec_);
    Blob<Dtype>* centers = layer.blobs()[0].get();
    FillCenters(centers);
    caffe_set(centers->count(), Dtype(0), centers->mutable_cpu_diff());
    const bool l1 = type == "L1";
    const int num = f_.shape(0);
    const int size = f_.count(1);
    double loss = 0;
    vector<double> slope(num * size);
    vector<double> pull(classes * size, 0);
    vector<int> n(classes, 0);
    for (int i = 0; i < num; ++i) {
      const int y = label_.cpu_data()[i];
      ++n[y];
      for (int k = 0; k < size; ++k) {
        const double apart = f_.cpu_data()[i * size + k] - centers->cpu_data()[y * size + k];
        loss += l1 ? std::abs(apart) / num : apart * apart / (2 * num);
        slope[i * size + k] = l1 ? (apart > 0) - (apart < 0) : apart;
        pull[y * size + k] -= slope[i * size + k];
      }
    }
    EXPECT_EQ(0, loss_.num_axes());
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(bottom_vec_, top_vec_);
      EXPECT_NEAR(loss, loss_.cpu_data()[0], 1e-5 * (1 + loss));
    }
    loss_.mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    for (int pass = 0; pass < passes; ++pass) {
      layer.Backward(top_vec_, propagate_down, bottom_vec_);
    }
    for (int i = 0; i < num * size; ++i) {
      EXPECT_NEAR(0.5 * slope[i] / num, f_.cpu_diff()[i], 1e-6 * (1 + std::abs(slope[i])));
    }
    for (int j = 0; j < classes; ++j) {
      const double factor = step == CenterLossParameter_CenterStep_DERIVATIVE ? 0.5 / num
          : (step == CenterLossParameter_CenterStep_PAPER ? 1. : n[j]) / (1 + n[j]);
      for (int k = 0; k < size; ++k) {
        const double expected = passes * factor * pull[j * size + k];
        EXPECT_NEAR(expected, centers->cpu_diff()[j * size + k], 1e-5 * (1 + std::abs(expected)));
      }
    }
  }

  void ExpectAllFormulas(int classes) {
    for (int l1 = 0; l1 < 2; ++l1) {
      for (int step = 0; step < 3; ++step) {
        for (int passes = 1; passes < 3; ++passes) {
          ExpectFormula(l1 ? "L1" : "L2", static_cast<CenterLossParameter_CenterStep>(step), classes, passes);
        }
      }
    }
  }

  Blob<Dtype> f_, label_, loss_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(CenterLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(CenterLossLayerTest, TestDefaults) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("CenterLoss");
  param.mutable_center_loss_param()->set_num_output(4);
  param.mutable_center_loss_param()->mutable_center_filler()->set_value(3);
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  layer->SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_STREQ("CenterLoss", layer->type());
  EXPECT_EQ(1, layer->loss(0));
  ASSERT_EQ(1, layer->blobs().size());
  EXPECT_EQ("4 6 (24)", layer->blobs()[0]->shape_string());
  EXPECT_EQ(3, layer->blobs()[0]->cpu_data()[23]);
  EXPECT_EQ(CenterLossParameter_CenterStep_PAPER, layer->layer_param().center_loss_param().center_step());
  EXPECT_EQ("L2", layer->layer_param().center_loss_param().distance_type());
}

TYPED_TEST(CenterLossLayerTest, TestFormulas) { this->ExpectAllFormulas(4); }

TYPED_TEST(CenterLossLayerTest, TestEverySampleOfOneClass) {
  const int labels[] = {3, 3, 3, 3};
  this->Fill(labels, 4, 5, 1);
  this->ExpectAllFormulas(5);
}

TYPED_TEST(CenterLossLayerTest, TestOneSample) {
  const int labels[] = {1};
  this->Fill(labels, 1, 5, 1);
  this->ExpectAllFormulas(3);
}

TYPED_TEST(CenterLossLayerTest, TestOneClass) {
  const int labels[] = {0, 0};
  this->Fill(labels, 2, 1, 1);
  this->ExpectAllFormulas(1);
}

TYPED_TEST(CenterLossLayerTest, TestManySamples) {
  const int num = 300;
  vector<int> labels(num);
  for (int i = 0; i < num; ++i) {
    labels[i] = i * i % 101;
  }
  this->Fill(&labels[0], num, 300, 1);
  for (int step = 0; step < 3; ++step) {
    this->ExpectFormula("L2", static_cast<CenterLossParameter_CenterStep>(step), 1000, 1);
  }
}

TYPED_TEST(CenterLossLayerTest, TestSamplesAtTheirCenters) {
  typedef typename TypeParam::Dtype Dtype;
  for (int l1 = 0; l1 < 2; ++l1) {
    CenterLossLayer<Dtype> layer(this->Parameter(l1 ? "L1" : "L2", CenterLossParameter_CenterStep_FORK));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    // Features and centers of 0.
    caffe_set(this->f_.count(), Dtype(0), this->f_.mutable_cpu_data());
    caffe_set(24, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(0, this->loss_.cpu_data()[0]);
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    EXPECT_EQ(0, this->f_.asum_diff());
    EXPECT_EQ(0, layer.blobs()[0]->asum_diff());
  }
}

TYPED_TEST(CenterLossLayerTest, TestSamplesWithoutAClass) {
  typedef typename TypeParam::Dtype Dtype;
  const int labels[] = {2, -1, 0, -1, 2};
  const int rows[] = {0, 2, 4};
  for (int step = 0; step < 3; ++step) {
    const LayerParameter param = this->Parameter("L2", static_cast<CenterLossParameter_CenterStep>(step));
    this->Fill(labels, 5, 2, 3);
    Blob<Dtype> f, label(vector<int>(1, 3)), loss;  // without them
    f.Reshape(3, 2, 3, 1);
    for (int i = 0; i < 3; ++i) {
      caffe_copy(6, this->f_.cpu_data() + 6 * rows[i], f.mutable_cpu_data() + 6 * i);
      label.mutable_cpu_data()[i] = labels[rows[i]];
    }
    vector<Blob<Dtype>*> bottom(1, &f), top(1, &loss);
    bottom.push_back(&label);
    CenterLossLayer<Dtype> layer(param), other(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    other.SetUp(bottom, top);
    this->FillCenters(layer.blobs()[0].get());
    this->FillCenters(other.blobs()[0].get());
    caffe_set(24, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
    caffe_set(24, Dtype(0), other.blobs()[0]->mutable_cpu_diff());
    layer.Forward(this->bottom_vec_, this->top_vec_);
    other.Forward(bottom, top);
    EXPECT_NEAR(loss.cpu_data()[0], this->loss_.cpu_data()[0], 1e-5);
    this->loss_.mutable_cpu_diff()[0] = loss.mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    other.Backward(top, propagate_down, bottom);
    for (int k = 0; k < 24; ++k) {
      EXPECT_NEAR(other.blobs()[0]->cpu_diff()[k], layer.blobs()[0]->cpu_diff()[k], 1e-6);
    }
    for (int k = 0; k < 6; ++k) {
      EXPECT_EQ(0, this->f_.cpu_diff()[6 + k]);
      EXPECT_EQ(0, this->f_.cpu_diff()[18 + k]);
      for (int i = 0; i < 3; ++i) {
        EXPECT_NEAR(f.cpu_diff()[6 * i + k], this->f_.cpu_diff()[6 * rows[i] + k], 1e-6);
      }
    }
  }
  const int none[] = {-1, -1, -1, -1, -1};
  this->Fill(none, 5, 2, 3);
  CenterLossLayer<Dtype> layer(this->Parameter("L2", CenterLossParameter_CenterStep_PAPER));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, this->loss_.cpu_data()[0]);
}

TYPED_TEST(CenterLossLayerTest, TestNaNIsTheLoss) {
  typedef typename TypeParam::Dtype Dtype;
  for (int l1 = 0; l1 < 2; ++l1) {
    CenterLossLayer<Dtype> layer(this->Parameter(l1 ? "L1" : "L2", CenterLossParameter_CenterStep_PAPER));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    this->f_.mutable_cpu_data()[3] = std::numeric_limits<Dtype>::quiet_NaN();
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_NE(this->loss_.cpu_data()[0], this->loss_.cpu_data()[0]);
  }
}

TYPED_TEST(CenterLossLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (int l1 = 0; l1 < 2; ++l1) {
    CenterLossLayer<Dtype> layer(this->Parameter(l1 ? "L1" : "L2", CenterLossParameter_CenterStep_DERIVATIVE));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    this->FillCenters(layer.blobs()[0].get());
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientSingle(&layer, this->bottom_vec_, this->top_vec_, 0, 0, 0);
  }
}

TYPED_TEST(CenterLossLayerTest, TestGradientsThatNobodyAsksFor) {
  typedef typename TypeParam::Dtype Dtype;
  CenterLossLayer<Dtype> layer(this->Parameter("L2", CenterLossParameter_CenterStep_FORK));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.set_param_propagate_down(0, false);
  caffe_set(24, Dtype(7), layer.blobs()[0]->mutable_cpu_diff());
  caffe_set(this->f_.count(), Dtype(8), this->f_.mutable_cpu_diff());
  layer.Forward(this->bottom_vec_, this->top_vec_);
  layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(7, layer.blobs()[0]->cpu_diff()[i]);
  }
  for (int i = 0; i < this->f_.count(); ++i) {
    EXPECT_EQ(8, this->f_.cpu_diff()[i]);
  }
}

TYPED_TEST(CenterLossLayerTest, TestReshape) {
  typedef typename TypeParam::Dtype Dtype;
  CenterLossLayer<Dtype> layer(this->Parameter("L2", CenterLossParameter_CenterStep_FORK));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int nums[] = {8, 2};
  const int labels[] = {0, 1, 2, 3, 0, 1, 2, 3};
  for (int b = 0; b < 2; ++b) {
    this->Fill(labels, nums[b], 2, 3);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double loss = 0;  // of centers of 0
    for (int i = 0; i < this->f_.count(); ++i) {
      loss += this->f_.cpu_data()[i] * this->f_.cpu_data()[i] / (2 * nums[b]);
    }
    EXPECT_NEAR(loss, this->loss_.cpu_data()[0], 1e-5 * loss);
  }
}

class CenterLossLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  CenterLossLayerDeathTest() : f_(5, 6, 1, 1), label_(vector<int>(1, 5)) {
    param_.set_name("cl");
    param_.mutable_center_loss_param()->set_num_output(4);
    bottom_vec_.push_back(&f_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&loss_);
  }

  void Run(int back_to = -1) {
    CenterLossLayer<float> layer(param_);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
    vector<bool> propagate_down(2, false);
    if (back_to >= 0) {
      propagate_down[back_to] = true;
    }
    layer.Backward(top_vec_, propagate_down, bottom_vec_);
  }

  LayerParameter param_;
  Blob<float> f_, label_, loss_;
  vector<Blob<float>*> bottom_vec_, top_vec_;
};

TEST_F(CenterLossLayerDeathTest, TestParameters) {
  CenterLossParameter* center = param_.mutable_center_loss_param();
  center->set_axis(2);
  EXPECT_DEATH(Run(), "cl: expected axis 1, got 2");
  center->clear_num_output();
  EXPECT_DEATH(Run(), "cl: expected a num_output of 1 or more");
  center->set_distance_type("L0");
  EXPECT_DEATH(Run(), "cl: expected distance_type .L2. or .L1., got .L0.");
}

TEST_F(CenterLossLayerDeathTest, TestLabels) {
  label_.mutable_cpu_data()[1] = 4;
  EXPECT_DEATH(Run(), "cl: label 4 of sample 1 is out of range; expected 0 to 3");
  label_.mutable_cpu_data()[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_DEATH(Run(), "cl: label -?nan of sample 1 is out of range");
  label_.mutable_cpu_data()[1] = 0;
  EXPECT_DEATH(Run(1), "CenterLoss Layer cannot backpropagate to label inputs");
}

TEST_F(CenterLossLayerDeathTest, TestShapes) {
  label_.Reshape(vector<int>(1, 4));
  EXPECT_DEATH(Run(), "cl: expected a label for each row of bottom 0, 5 6 1 1 .30., got 4");
  f_.Reshape(vector<int>(1, 5));
  EXPECT_DEATH(Run(), "cl: expected features .N, .... as bottom 0, got 5");
  f_.Reshape(5, 6, 1, 1);
  label_.Reshape(vector<int>(1, 5));
  CenterLossLayer<float> layer(param_);
  layer.SetUp(bottom_vec_, top_vec_);
  f_.Reshape(5, 7, 1, 1);
  EXPECT_DEATH(layer.Reshape(bottom_vec_, top_vec_), "cl: expected 6 numbers a sample, got 5 7 1 1");
}

}  // namespace caffe
