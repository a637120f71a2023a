#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/inner_distance_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class InnerDistanceLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  InnerDistanceLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(&x_, 5, 6);
    Fill(&w_, 4, 6);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&top_);
  }

  static void Fill(Blob<Dtype>* blob, int rows, int size) {
    blob->Reshape(rows, size, 1, 1);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(blob);
  }

  LayerParameter Learned(const string& type, bool normalize = false, Phase phase = TRAIN) {
    LayerParameter param;
    param.set_phase(phase);
    InnerDistanceParameter* distance = param.mutable_inner_distance_param();
    distance->set_num_output(4);
    distance->set_distance_type(type);
    distance->set_normalize(normalize);
    distance->mutable_weight_filler()->set_type("gaussian");
    return param;
  }

  LayerParameter FromBottoms(const string& type, bool exact) {
    bottom_vec_.push_back(&w_);
    LayerParameter param;
    param.mutable_inner_distance_param()->set_distance_type(type);
    param.mutable_inner_distance_param()->set_exact_gradient(exact);
    return param;
  }

  /// Moves x away from the agents, where |x - w| has its kink.
  void KeepApart(Dtype least) {
    for (int i = 0; i < x_.shape(0); ++i) {
      for (int k = 0; k < 6; ++k) {
        bool near = true;
        while (near) {
          near = false;
          for (int j = 0; j < w_.shape(0); ++j) {
            near = near || std::abs(x_.cpu_data()[i * 6 + k] - w_.cpu_data()[j * 6 + k]) < least;
          }
          if (near) {
            x_.mutable_cpu_data()[i * 6 + k] += least;
          }
        }
      }
    }
  }

  void ExpectDistances(const Dtype* w, bool l1) {
    for (int i = 0; i < x_.shape(0); ++i) {
      for (int j = 0; j < 4; ++j) {
        double sum = 0;
        for (int k = 0; k < 6; ++k) {
          const double apart = static_cast<double>(x_.cpu_data()[i * 6 + k]) - w[j * 6 + k];
          sum += l1 ? std::abs(apart) : apart * apart;
        }
        EXPECT_NEAR(sum, top_.cpu_data()[i * 4 + j], 1e-5 * (1 + sum));
      }
    }
  }

  void FillTopDiff() {
    for (int i = 0; i < top_.count(); ++i) {
      top_.mutable_cpu_diff()[i] = (i * 5 % 7) - Dtype(2.5);
    }
  }

  /// The labels as the last bottom: class 2 has two samples, class 1 none.
  void AddLabels(LayerParameter* param) {
    param->mutable_inner_distance_param()->set_update_center_only(true);
    const int labels[] = {2, 0, 3, 2, 0};
    label_.Reshape(vector<int>(1, 5));
    for (int i = 0; i < 5; ++i) {
      label_.mutable_cpu_data()[i] = labels[i];
    }
    bottom_vec_.push_back(&label_);
  }

  Blob<Dtype> x_, w_, label_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(InnerDistanceLayerTest, TestDtypesAndDevices);

TYPED_TEST(InnerDistanceLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int l1 = 0; l1 < 2; ++l1) {
    InnerDistanceLayer<Dtype> layer(this->Learned(l1 ? "L1" : "L2"));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      EXPECT_EQ("5 4 (20)", this->top_.shape_string());
      this->ExpectDistances(layer.blobs()[0]->cpu_data(), l1);
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestForwardManyTiles) {
  typedef typename TypeParam::Dtype Dtype;
  const int rows = 37, classes = 35, size = 50;
  this->Fill(&this->x_, rows, size);
  this->Fill(&this->w_, classes, size);
  for (int l1 = 0; l1 < 2; ++l1) {
    InnerDistanceLayer<Dtype> layer(this->FromBottoms(l1 ? "L1" : "L2", true));
    this->bottom_vec_.resize(2);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < classes; ++j) {
        Dtype sum = 0;
        for (int k = 0; k < size; ++k) {
          const Dtype apart = this->x_.cpu_data()[i * size + k] - this->w_.cpu_data()[j * size + k];
          sum += l1 ? std::abs(apart) : apart * apart;
        }
        EXPECT_NEAR(sum, this->top_.cpu_data()[i * classes + j], 1e-5 * sum);
      }
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestSmallDistancesKeepTheirDigits) {
  typedef typename TypeParam::Dtype Dtype;
  // x = w but for 1e-3 in one place, both far from 0: |x|^2 + |w|^2 - 2 x.w alone would give about 0 or noise.
  for (int i = 0; i < this->x_.count(); ++i) {
    this->x_.mutable_cpu_data()[i] = 3 + i % 6;
  }
  for (int i = 0; i < this->w_.count(); ++i) {
    this->w_.mutable_cpu_data()[i] = 3 + i % 6 + (i % 6 == 2 ? Dtype(1) / 1024 : Dtype(0));
  }
  InnerDistanceLayer<Dtype> layer(this->FromBottoms("L2", true));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < this->top_.count(); ++i) {
    EXPECT_NEAR(1. / 1024 / 1024, this->top_.cpu_data()[i], 1e-12);
  }
  this->w_.CopyFrom(this->x_, false, true);
  layer.Reshape(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, this->top_.cpu_data()[0]);
}

TYPED_TEST(InnerDistanceLayerTest, TestNormalize) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    LayerParameter param = this->Learned("L2", true, phase ? TEST : TRAIN);
    InnerDistanceLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = layer.blobs()[0].get();
    vector<Dtype> unit(24);
    const Dtype first = weight->cpu_data()[0];
    for (int j = 0; j < 4; ++j) {
      Dtype sum = 1e-6;
      for (int k = 0; k < 6; ++k) {
        sum += weight->cpu_data()[j * 6 + k] * weight->cpu_data()[j * 6 + k];
      }
      for (int k = 0; k < 6; ++k) {
        unit[j * 6 + k] = weight->cpu_data()[j * 6 + k] / std::sqrt(sum);
      }
    }
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectDistances(&unit[0], false);
    EXPECT_NEAR(phase ? first : unit[0], weight->cpu_data()[0], 1e-6);
    // dW of the unit rows, 2 sum_i g (w - x), added up.
    caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
    this->FillTopDiff();
    for (int pass = 1; pass < 3; ++pass) {
      layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      for (int j = 0; j < 4; ++j) {
        for (int k = 0; k < 6; ++k) {
          Dtype sum = 0;
          for (int i = 0; i < 5; ++i) {
            sum += 2 * this->top_.cpu_diff()[i * 4 + j] * (unit[j * 6 + k] - this->x_.cpu_data()[i * 6 + k]);
          }
          EXPECT_NEAR(pass * sum, weight->cpu_diff()[j * 6 + k], 1e-3);
        }
      }
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  InnerDistanceLayer<Dtype> layer(this->Learned("L2"));
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(InnerDistanceLayerTest, TestGradientTwoBottoms) {
  typedef typename TypeParam::Dtype Dtype;
  InnerDistanceLayer<Dtype> layer(this->FromBottoms("L2", false));
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(InnerDistanceLayerTest, TestGradientOneSampleOneClass) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(&this->x_, 1, 6);
  this->Fill(&this->w_, 1, 6);
  InnerDistanceLayer<Dtype> layer(this->FromBottoms("L2", false));
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(InnerDistanceLayerTest, TestGradientL1) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->FromBottoms("L1", true);
  this->KeepApart(0.05);
  InnerDistanceLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(InnerDistanceLayerTest, TestForkGradientL1) {
  typedef typename TypeParam::Dtype Dtype;
  InnerDistanceLayer<Dtype> layer(this->FromBottoms("L1", false));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->FillTopDiff();
  layer.Backward(this->top_vec_, vector<bool>(2, true), this->bottom_vec_);
  const Dtype* g = this->top_.cpu_diff();
  const Dtype* x = this->x_.cpu_data();
  const Dtype* w = this->w_.cpu_data();
  for (int k = 0; k < 6; ++k) {
    for (int i = 0; i < 5; ++i) {
      Dtype sum = 0;
      for (int j = 0; j < 4; ++j) {
        sum += x[i * 6 + k] > w[j * 6 + k] ? g[i * 4 + j] : Dtype(-1);
      }
      EXPECT_NEAR(sum, this->x_.cpu_diff()[i * 6 + k], 1e-5);
    }
    for (int j = 0; j < 4; ++j) {
      Dtype sum = 0;
      for (int i = 0; i < 5; ++i) {
        sum += w[j * 6 + k] > x[i * 6 + k] ? g[i * 4 + j] : Dtype(-1);
      }
      EXPECT_NEAR(sum, this->w_.cpu_diff()[j * 6 + k], 1e-5);
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestBlobGradientL1AddsUp) {
  typedef typename TypeParam::Dtype Dtype;
  InnerDistanceLayer<Dtype> layer(this->Learned("L1"));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->FillTopDiff();
  Blob<Dtype>* weight = layer.blobs()[0].get();
  caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  Blob<Dtype> once;
  once.CopyFrom(*weight, true, true);
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_NEAR(2 * once.cpu_diff()[i], weight->cpu_diff()[i], 1e-5);
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestUpdateCenterOnly) {
  typedef typename TypeParam::Dtype Dtype;
  for (int option = 0; option < 6; ++option) {
    const bool from_bottom = option % 2, l1 = option / 2, exact = option / 2 != 2;
    this->bottom_vec_.resize(1);
    LayerParameter param = from_bottom ? this->FromBottoms(l1 ? "L1" : "L2", exact) : this->Learned(l1 ? "L1" : "L2");
    param.mutable_inner_distance_param()->set_exact_gradient(exact);
    this->AddLabels(&param);
    InnerDistanceLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ(from_bottom ? 0 : 1, layer.blobs().size());
    EXPECT_TRUE(layer.AllowForceBackward(0));
    EXPECT_FALSE(layer.AllowForceBackward(from_bottom ? 2 : 1));
    layer.Forward(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = from_bottom ? &this->w_ : layer.blobs()[0].get();
    this->ExpectDistances(weight->cpu_data(), l1);
    this->FillTopDiff();
    caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
    vector<bool> propagate_down(this->bottom_vec_.size(), true);
    propagate_down.back() = false;
    const Dtype* g = this->top_.cpu_diff();
    const Dtype* x = this->x_.cpu_data();
    const Dtype* w = weight->cpu_data();
    for (int pass = 1; pass < 3; ++pass) {  // a blob's gradients add up
      layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
      vector<double> dx(30, 0), dw(24, 0);
      for (int i = 0; i < 5; ++i) {
        for (int j = 0; j < 4; ++j) {
          for (int k = 0; k < 6; ++k) {
            const double apart = static_cast<double>(x[i * 6 + k]) - w[j * 6 + k], top = g[i * 4 + j];
            double to_x = 2 * top * apart, to_w = -to_x;
            if (l1) {
              to_x = apart > 0 ? top : exact ? -top : -1;
              to_w = apart < 0 ? top : exact ? -top : -1;
            }
            dx[i * 6 + k] += to_x;
            if (j == this->label_.cpu_data()[i]) {
              dw[j * 6 + k] += (from_bottom ? 1 : pass) * to_w;
            }
          }
        }
      }
      for (int i = 0; i < 30; ++i) {
        EXPECT_NEAR(dx[i], this->x_.cpu_diff()[i], 1e-4);
      }
      for (int i = 0; i < 24; ++i) {
        EXPECT_NEAR(dw[i], weight->cpu_diff()[i], 1e-4);
      }
      EXPECT_EQ(0, weight->cpu_diff()[6]);  // the class without a sample
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestUpdateCenterOnlyManySamples) {  // more than a block has threads
  typedef typename TypeParam::Dtype Dtype;
  const int rows = 600, classes = 4, size = 3;
  for (int spread = 0; spread < 2; ++spread) {  // classes apart, and one after another
    this->Fill(&this->x_, rows, size);
    this->Fill(&this->w_, classes, size);
    this->bottom_vec_.resize(1);
    LayerParameter param = this->FromBottoms("L2", true);
    this->AddLabels(&param);
    this->label_.Reshape(vector<int>(1, rows));
    for (int i = 0; i < rows; ++i) {
      const int y = spread ? i * 7 % 4 : i / 150;
      this->label_.mutable_cpu_data()[i] = y == 2 ? -1 : y;
    }
    InnerDistanceLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->FillTopDiff();
    vector<bool> propagate_down(3, true);
    propagate_down[2] = false;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    vector<double> dw(classes * size, 0);
    for (int i = 0; i < rows; ++i) {
      const int y = this->label_.cpu_data()[i];
      for (int k = 0; k < size && y >= 0; ++k) {
        dw[y * size + k] += 2. * this->top_.cpu_diff()[i * classes + y]
            * (static_cast<double>(this->w_.cpu_data()[y * size + k]) - this->x_.cpu_data()[i * size + k]);
      }
    }
    for (int i = 0; i < classes * size; ++i) {
      EXPECT_NEAR(dw[i], this->w_.cpu_diff()[i], 2e-3);  // of 150 terms up to 20
    }
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestUpdateCenterOnlyOfUnitRows) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Learned("L2", true);
  this->AddLabels(&param);
  InnerDistanceLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  Blob<Dtype>* weight = layer.blobs()[0].get();  // TRAIN stores the unit rows
  this->ExpectDistances(weight->cpu_data(), false);
  this->FillTopDiff();
  caffe_set(24, Dtype(0), weight->mutable_cpu_diff());
  vector<bool> propagate_down(2, true);
  propagate_down[1] = false;
  layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
  for (int k = 0; k < 6; ++k) {  // of class 3, sample 2
    const Dtype apart = weight->cpu_data()[18 + k] - this->x_.cpu_data()[12 + k];
    EXPECT_NEAR(2 * this->top_.cpu_diff()[2 * 4 + 3] * apart, weight->cpu_diff()[18 + k], 1e-4);
  }
}

TYPED_TEST(InnerDistanceLayerTest, TestUpdateCenterOnlyGradientOfTheBottom) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->FromBottoms("L2", true);
  this->AddLabels(&param);
  InnerDistanceLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-2);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_, 0);
}

TYPED_TEST(InnerDistanceLayerTest, TestAnotherBatch) {
  typedef typename TypeParam::Dtype Dtype;
  InnerDistanceLayer<Dtype> layer(this->Learned("L2"));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->Fill(&this->x_, 9, 6);
  layer.Reshape(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("9 4 (36)", this->top_.shape_string());
  this->ExpectDistances(layer.blobs()[0]->cpu_data(), false);
}

class InnerDistanceLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  InnerDistanceLayerDeathTest() : x_(5, 6, 1, 1), w_(4, 6, 1, 1), label_(vector<int>(1, 5)) { param_.set_name("id"); }

  void SetUpLayer(int bottoms) {
    Blob<float>* blobs[] = {&x_, &w_, &label_};
    Run(vector<Blob<float>*>(blobs, blobs + bottoms));
  }

  void Run(const vector<Blob<float>*>& bottom_vec, bool backward_to_label = false) {
    vector<Blob<float>*> top_vec(1, &top_);
    InnerDistanceLayer<float> layer(param_);
    layer.SetUp(bottom_vec, top_vec);
    layer.Forward(bottom_vec, top_vec);
    if (backward_to_label) {
      layer.Backward(top_vec, vector<bool>(bottom_vec.size(), true), bottom_vec);
    }
  }

  LayerParameter param_;
  Blob<float> x_, w_, label_, top_;
};

TEST_F(InnerDistanceLayerDeathTest, TestRefused) {
  EXPECT_DEATH(SetUpLayer(1), "id: expected a num_output of 1 or more");
  InnerDistanceParameter* distance = param_.mutable_inner_distance_param();
  distance->set_num_output(5);
  EXPECT_DEATH(SetUpLayer(2), "id: num_output is 5 but bottom 1, the weight, is 4 6 1 1");
  distance->clear_num_output();
  w_.Reshape(4, 7, 1, 1);
  EXPECT_DEATH(SetUpLayer(2), "id: expected a weight of 4 x 6 numbers as bottom 1, got 4 7 1 1");
  distance->set_normalize(true);
  EXPECT_DEATH(SetUpLayer(2), "id: normalize is for a learned weight");
  distance->set_distance_type("L0");
  EXPECT_DEATH(SetUpLayer(2), "id: expected distance_type .L2. or .L1., got .L0.");
}

TEST_F(InnerDistanceLayerDeathTest, TestLabels) {
  EXPECT_DEATH(SetUpLayer(3), "id: labels as bottom 2 are for update_center_only");
  InnerDistanceParameter* distance = param_.mutable_inner_distance_param();
  distance->set_update_center_only(true);
  EXPECT_DEATH(SetUpLayer(1), "id: update_center_only takes the labels as the last bottom");
  SetUpLayer(3);
  vector<Blob<float>*> bottom_vec(1, &x_);
  bottom_vec.push_back(&label_);
  EXPECT_DEATH(Run(bottom_vec), "id: expected a num_output of 1 or more");
  distance->set_num_output(4);
  Run(bottom_vec);
  EXPECT_DEATH(Run(bottom_vec, true), "InnerDistance Layer cannot backpropagate to label inputs");
  label_.mutable_cpu_data()[3] = 4;
  EXPECT_DEATH(Run(bottom_vec), "id: label 4 of sample 3 is out of range; expected 0 to 3");
  EXPECT_DEATH(SetUpLayer(2), "id: expected 5 labels as bottom 1, got 4 6 1 1");
}

}  // namespace caffe
