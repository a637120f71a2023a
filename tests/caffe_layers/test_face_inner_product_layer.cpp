#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/face_layers_config.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_inner_product_layer.hpp"
#include "caffe/layers/inner_product_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class FaceInnerProductLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FaceInnerProductLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(&x_, 5, 6, 1, 1);
    Fill(&w_, 4, 6, 1, 1);
    Fill(&b_, 1, 1, 1, 4);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&top_);
  }

  static void Fill(Blob<Dtype>* blob, int num, int channels, int height, int width) {
    blob->Reshape(num, channels, height, width);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(blob);
  }

  LayerParameter Normalized(Phase phase) {
    LayerParameter param;
    param.set_phase(phase);
    InnerProductParameter* ip = param.mutable_inner_product_param();
    ip->set_num_output(4);
    ip->set_bias_term(false);
    ip->set_normalize(true);
    ip->mutable_weight_filler()->set_type("gaussian");
    return param;
  }

  LayerParameter FromBottoms(bool bias) {
    bottom_vec_.push_back(&w_);
    if (bias) {
      bottom_vec_.push_back(&b_);
    }
    LayerParameter param;
    param.mutable_inner_product_param()->set_bias_term(bias);
    return param;
  }

  Dtype Length(const Dtype* row, int size, Dtype eps) {
    Dtype sum = eps;
    for (int k = 0; k < size; ++k) {
      sum += row[k] * row[k];
    }
    return std::sqrt(sum);
  }

  Blob<Dtype> x_, w_, b_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FaceInnerProductLayerTest, TestDtypesAndDevices);

TYPED_TEST(FaceInnerProductLayerTest, TestNormalize) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    LayerParameter param = this->Normalized(phase ? TEST : TRAIN);
    param.mutable_inner_product_param()->set_normalize_eps(0.25);
    param.mutable_inner_product_param()->set_bias_term(true);
    param.mutable_inner_product_param()->mutable_bias_filler()->set_type("gaussian");
    FaceInnerProductLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = layer.blobs()[0].get();
    Blob<Dtype> before;
    before.CopyFrom(*weight, false, true);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_EQ("5 4 (20)", this->top_.shape_string());
    for (int j = 0; j < 4; ++j) {
      const Dtype* row = before.cpu_data() + j * 6;
      const Dtype length = this->Length(row, 6, 0.25);
      for (int i = 0; i < 5; ++i) {
        Dtype sum = layer.blobs()[1]->cpu_data()[j];
        for (int k = 0; k < 6; ++k) {
          sum += this->x_.cpu_data()[i * 6 + k] * row[k] / length;
        }
        EXPECT_NEAR(sum, this->top_.cpu_data()[i * 4 + j], 1e-5);
      }
      for (int k = 0; k < 6; ++k) {  // TRAIN stores the unit rows, TEST leaves the weight alone
        EXPECT_NEAR(phase ? row[k] : row[k] / length, weight->cpu_data()[j * 6 + k], phase ? 0 : 1e-6);
      }
    }
  }
}

TYPED_TEST(FaceInnerProductLayerTest, TestNormalizeBackward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    FaceInnerProductLayer<Dtype> layer(this->Normalized(phase ? TEST : TRAIN));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* weight = layer.blobs()[0].get();
    Blob<Dtype> before;
    before.CopyFrom(*weight, false, true);
    caffe_set(weight->count(), Dtype(0), weight->mutable_cpu_diff());
    layer.Forward(this->bottom_vec_, this->top_vec_);
    Dtype* g = this->top_.mutable_cpu_diff();
    for (int i = 0; i < 20; ++i) {
      g[i] = (i % 7) - 3;
    }
    for (int pass = 1; pass < 3; ++pass) {  // the blob's gradient adds up, the bottom's does not
      layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      for (int k = 0; k < 6; ++k) {
        for (int j = 0; j < 4; ++j) {
          Dtype sum = 0;
          for (int i = 0; i < 5; ++i) {
            sum += this->top_.cpu_diff()[i * 4 + j] * this->x_.cpu_data()[i * 6 + k];
          }
          EXPECT_NEAR(pass * sum, weight->cpu_diff()[j * 6 + k], 1e-4);
        }
        for (int i = 0; i < 5; ++i) {
          Dtype sum = 0;
          for (int j = 0; j < 4; ++j) {
            const Dtype* row = before.cpu_data() + j * 6;
            sum += this->top_.cpu_diff()[i * 4 + j] * row[k] / this->Length(row, 6, 1e-6);
          }
          EXPECT_NEAR(sum, this->x_.cpu_diff()[i * 6 + k], 1e-5);
        }
      }
    }
  }
}

TYPED_TEST(FaceInnerProductLayerTest, TestNormalizeZeroRow) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Normalized(TRAIN);
  param.mutable_inner_product_param()->mutable_weight_filler()->set_type("constant");
  FaceInnerProductLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(0, this->top_.cpu_data()[i]);
  }
}

TYPED_TEST(FaceInnerProductLayerTest, TestUnitballFiller) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Normalized(TEST);
  param.mutable_inner_product_param()->set_normalize(false);
  param.mutable_inner_product_param()->mutable_weight_filler()->set_type("gaussian_unitball");
  FaceInnerProductLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const Dtype* weight = layer.blobs()[0]->cpu_data();
  for (int j = 0; j < 4; ++j) {
    EXPECT_NEAR(1, this->Length(weight + j * 6, 6, 0), 1e-5);
  }
  EXPECT_NE(weight[0], weight[6]);
}

TYPED_TEST(FaceInnerProductLayerTest, TestWeightsAsBottoms) {
  typedef typename TypeParam::Dtype Dtype;
  FaceInnerProductLayer<Dtype> layer(this->FromBottoms(true));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, layer.blobs().size());
  for (int batch = 5; batch > 0; batch -= 2) {
    this->Fill(&this->x_, batch, 3, 2, 1);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    ASSERT_EQ(batch * 4, this->top_.count());
    for (int i = 0; i < batch; ++i) {
      for (int j = 0; j < 4; ++j) {
        Dtype sum = this->b_.cpu_data()[j];
        for (int k = 0; k < 6; ++k) {
          sum += this->x_.cpu_data()[i * 6 + k] * this->w_.cpu_data()[j * 6 + k];
        }
        EXPECT_NEAR(sum, this->top_.cpu_data()[i * 4 + j], 1e-5);
      }
    }
  }
}

TYPED_TEST(FaceInnerProductLayerTest, TestWeightsAsBottomsGradient) {
  typedef typename TypeParam::Dtype Dtype;
  FaceInnerProductLayer<Dtype> layer(this->FromBottoms(false));
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(FaceInnerProductLayerTest, TestWeightsAndBiasAsBottomsGradient) {
  typedef typename TypeParam::Dtype Dtype;
  FaceInnerProductLayer<Dtype> layer(this->FromBottoms(true));
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(FaceInnerProductLayerTest, TestOneSampleOneClassGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(&this->x_, 1, 6, 1, 1);
  this->Fill(&this->w_, 1, 6, 1, 1);
  FaceInnerProductLayer<Dtype> layer(this->FromBottoms(false));
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

#ifdef CAFFE_FACE_HAS_TRANSPOSE
TYPED_TEST(FaceInnerProductLayerTest, TestTransposedWeightGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(&this->w_, 6, 4, 1, 1);
  LayerParameter param = this->FromBottoms(true);
  param.mutable_inner_product_param()->set_transpose(true);
  FaceInnerProductLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}
#endif

TYPED_TEST(FaceInnerProductLayerTest, TestNoGradientUnlessAsked) {
  typedef typename TypeParam::Dtype Dtype;
  FaceInnerProductLayer<Dtype> layer(this->FromBottoms(true));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(20, Dtype(1), this->top_.mutable_cpu_diff());
  for (int i = 0; i < 3; ++i) {
    caffe_set(this->bottom_vec_[i]->count(), Dtype(7), this->bottom_vec_[i]->mutable_cpu_diff());
  }
  layer.Backward(this->top_vec_, vector<bool>(3, false), this->bottom_vec_);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(7, this->bottom_vec_[i]->cpu_diff()[0]);
  }
}

TYPED_TEST(FaceInnerProductLayerTest, TestCreator) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Normalized(TRAIN);
  param.set_name("ip");
  param.set_type("InnerProduct");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceInnerProductLayer<Dtype>*>(layer.get()) != NULL);
  param.mutable_inner_product_param()->set_normalize(false);
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<InnerProductLayer<Dtype>*>(layer.get()) != NULL);
  param.add_bottom("x");
  param.add_bottom("w");
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceInnerProductLayer<Dtype>*>(layer.get()) != NULL);
}

class FaceInnerProductLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  FaceInnerProductLayerDeathTest() : x_(5, 6, 1, 1), w_(4, 6, 1, 1), b_(3, 1, 1, 1) {
    param_.set_name("ip");
  }

  void SetUpLayer(int bottoms) {
    Blob<float>* blobs[] = {&x_, &w_, &b_};
    vector<Blob<float>*> bottom_vec(blobs, blobs + bottoms);
    vector<Blob<float>*> top_vec(1, &top_);
    FaceInnerProductLayer<float> layer(param_);
    layer.SetUp(bottom_vec, top_vec);
  }

  LayerParameter param_;
  Blob<float> x_, w_, b_, top_;
};

TEST_F(FaceInnerProductLayerDeathTest, TestRefused) {
  EXPECT_DEATH(SetUpLayer(1), "ip: expected a num_output of 1 or more");
  EXPECT_DEATH(SetUpLayer(2), "ip: with the weight as bottom 1 give the bias as bottom 2 or say bias_term: false");
  EXPECT_DEATH(SetUpLayer(3), "ip: expected a bias of 4 numbers as bottom 2, got 3 ");
  param_.mutable_inner_product_param()->set_bias_term(false);
  param_.mutable_inner_product_param()->set_num_output(5);
  EXPECT_DEATH(SetUpLayer(2), "num_output is 5 but bottom 1, the weight, is 4 6 1 1");
  param_.mutable_inner_product_param()->clear_num_output();
  w_.Reshape(4, 5, 1, 1);
  EXPECT_DEATH(SetUpLayer(2), "ip: expected a weight of 4 x 6 numbers as bottom 1, got 4 5 1 1");
  param_.mutable_inner_product_param()->set_normalize(true);
  EXPECT_DEATH(SetUpLayer(2), "ip: normalize is for a learned weight");
}

}  // namespace caffe
