#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_scale_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class FaceScaleLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FaceScaleLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(5);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&top_);
  }

  void Fill(int num) {
    x_.Reshape(num, 4, 3, 1);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
  }

  static LayerParameter Param(Phase phase) {
    LayerParameter param;
    param.set_phase(phase);
    param.mutable_scale_param()->set_min_value(0.5);
    param.mutable_scale_param()->set_max_value(2);
    return param;
  }

  // Below, within and above the bounds of Param, and what becomes of that.
  static Dtype Scale(int c) {
    const Dtype scales[] = {-1, 1.5, 3, 0.75};
    return scales[c];
  }
  static Dtype Bounded(int c) {
    const Dtype scales[] = {0.5, 1.5, 2, 0.75};
    return scales[c];
  }

  static void SetScale(Layer<Dtype>* layer) {
    for (int c = 0; c < 4; ++c) {
      layer->blobs()[0]->mutable_cpu_data()[c] = Scale(c);
    }
  }

  int Channel(int i) const { return i / 3 % 4; }

  Blob<Dtype> x_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FaceScaleLayerTest, TestDtypesAndDevices);

TYPED_TEST(FaceScaleLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    FaceScaleLayer<Dtype> layer(this->Param(phase ? TEST : TRAIN));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    this->SetScale(&layer);
    const Blob<Dtype>* blob = layer.blobs()[0].get();
    for (int num = 5; num > 0; num -= 2) {
      this->Fill(num);
      layer.Reshape(this->bottom_vec_, this->top_vec_);
      for (int pass = 0; pass < 2; ++pass) {
        layer.Forward(this->bottom_vec_, this->top_vec_);
        ASSERT_EQ(num * 12, this->top_.count());
        for (int i = 0; i < this->x_.count(); ++i) {
          EXPECT_NEAR(this->Bounded(this->Channel(i)) * this->x_.cpu_data()[i], this->top_.cpu_data()[i], 1e-5);
        }
      }
    }
    ASSERT_EQ(blob, layer.blobs()[0].get());
    for (int c = 0; c < 4; ++c) {  // TRAIN stores the bounded scale, TEST leaves the blob alone
      EXPECT_EQ(phase ? this->Scale(c) : this->Bounded(c), blob->cpu_data()[c]);
    }
  }
}

TYPED_TEST(FaceScaleLayerTest, TestOneBound) {
  typedef typename TypeParam::Dtype Dtype;
  for (int lower = 0; lower < 2; ++lower) {
    LayerParameter param = this->Param(TRAIN);
    if (lower) {
      param.mutable_scale_param()->clear_max_value();
    } else {
      param.mutable_scale_param()->clear_min_value();
    }
    FaceScaleLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    this->SetScale(&layer);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    const Dtype* scale = layer.blobs()[0]->cpu_data();
    EXPECT_EQ(lower ? 0.5 : -1, scale[0]);
    EXPECT_EQ(1.5, scale[1]);
    EXPECT_EQ(lower ? 3 : 2, scale[2]);
  }
}

// NormFace's form: one number for all, in place.
TYPED_TEST(FaceScaleLayerTest, TestScalarInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  Blob<Dtype> before;
  before.CopyFrom(this->x_, false, true);
  LayerParameter param = this->Param(TRAIN);
  param.mutable_scale_param()->set_num_axes(0);
  param.mutable_scale_param()->mutable_filler()->set_value(10);
  FaceScaleLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->bottom_vec_);
  EXPECT_EQ(0, layer.blobs()[0]->num_axes());
  caffe_set(1, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
  layer.Forward(this->bottom_vec_, this->bottom_vec_);
  EXPECT_EQ(2, layer.blobs()[0]->cpu_data()[0]);
  Dtype dot = 0;
  for (int i = 0; i < before.count(); ++i) {
    EXPECT_NEAR(2 * before.cpu_data()[i], this->x_.cpu_data()[i], 1e-5);
    this->x_.mutable_cpu_diff()[i] = i % 5 - 2;
    dot += (i % 5 - 2) * before.cpu_data()[i];
  }
  layer.Backward(this->bottom_vec_, vector<bool>(1, true), this->bottom_vec_);
  for (int i = 0; i < before.count(); ++i) {
    EXPECT_NEAR(2 * (i % 5 - 2), this->x_.cpu_diff()[i], 1e-5);
  }
  EXPECT_NEAR(dot, layer.blobs()[0]->cpu_diff()[0], 1e-4);
}

// The fork's: with the bounded scale, and unmasked at a bound.
TYPED_TEST(FaceScaleLayerTest, TestBackward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    LayerParameter param = this->Param(phase ? TEST : TRAIN);
    param.mutable_scale_param()->set_bias_term(true);
    param.mutable_scale_param()->mutable_bias_filler()->set_value(0.25);
    FaceScaleLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    ASSERT_EQ(2, layer.blobs().size());
    this->SetScale(&layer);
    for (int i = 0; i < 2; ++i) {
      caffe_set(4, Dtype(0), layer.blobs()[i]->mutable_cpu_diff());
    }
    for (int pass = 1; pass < 3; ++pass) {  // the blobs' gradients add up, the bottom's does not
      layer.Forward(this->bottom_vec_, this->top_vec_);
      Dtype ds[] = {0, 0, 0, 0}, db[] = {0, 0, 0, 0};
      for (int i = 0; i < this->x_.count(); ++i) {
        const int c = this->Channel(i);
        EXPECT_NEAR(this->Bounded(c) * this->x_.cpu_data()[i] + 0.25, this->top_.cpu_data()[i], 1e-5);
        this->top_.mutable_cpu_diff()[i] = i % 5 - 2;
        ds[c] += (i % 5 - 2) * this->x_.cpu_data()[i];
        db[c] += i % 5 - 2;
      }
      layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      for (int i = 0; i < this->x_.count(); ++i) {
        EXPECT_NEAR(this->Bounded(this->Channel(i)) * (i % 5 - 2), this->x_.cpu_diff()[i], 1e-5);
      }
      for (int c = 0; c < 4; ++c) {
        EXPECT_NEAR(pass * ds[c], layer.blobs()[0]->cpu_diff()[c], 1e-4);
        EXPECT_NEAR(pass * db[c], layer.blobs()[1]->cpu_diff()[c], 1e-4);
      }
    }
  }
}

TYPED_TEST(FaceScaleLayerTest, TestGradientWithinBounds) {
  typedef typename TypeParam::Dtype Dtype;
  for (int phase = 0; phase < 2; ++phase) {
    LayerParameter param = this->Param(phase ? TEST : TRAIN);
    param.mutable_scale_param()->mutable_filler()->set_type("uniform");
    param.mutable_scale_param()->mutable_filler()->set_min(0.75);
    param.mutable_scale_param()->mutable_filler()->set_max(1.75);
    FaceScaleLayer<Dtype> layer(param);
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
  }
}

TYPED_TEST(FaceScaleLayerTest, TestNoGradientUnlessAsked) {
  typedef typename TypeParam::Dtype Dtype;
  FaceScaleLayer<Dtype> layer(this->Param(TRAIN));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.set_param_propagate_down(0, false);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
  caffe_set(this->x_.count(), Dtype(7), this->x_.mutable_cpu_diff());
  caffe_set(4, Dtype(7), layer.blobs()[0]->mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, false), this->bottom_vec_);
  EXPECT_EQ(7, this->x_.cpu_diff()[0]);
  EXPECT_EQ(7, layer.blobs()[0]->cpu_diff()[0]);
}

TYPED_TEST(FaceScaleLayerTest, TestCreator) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("Scale");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<ScaleLayer<Dtype>*>(layer.get()) != NULL);
  EXPECT_TRUE(dynamic_cast<FaceScaleLayer<Dtype>*>(layer.get()) == NULL);
  param.mutable_scale_param()->set_min_value(0);
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceScaleLayer<Dtype>*>(layer.get()) != NULL);
  EXPECT_STREQ("Scale", layer->type());
  param.mutable_scale_param()->clear_min_value();
  param.mutable_scale_param()->set_max_value(0);
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceScaleLayer<Dtype>*>(layer.get()) != NULL);
}

class FaceScaleLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  FaceScaleLayerDeathTest() : x_(5, 4, 3, 1), s_(vector<int>(1, 4)) {
    param_.set_name("scale");
    param_.mutable_scale_param()->set_min_value(3);
  }

  void SetUpLayer(int bottoms) {
    Blob<float>* blobs[] = {&x_, &s_};
    vector<Blob<float>*> bottom_vec(blobs, blobs + bottoms), top_vec(1, &top_);
    FaceScaleLayer<float> layer(param_);
    layer.SetUp(bottom_vec, top_vec);
  }

  LayerParameter param_;
  Blob<float> x_, s_, top_;
};

TEST_F(FaceScaleLayerDeathTest, TestRefused) {
  EXPECT_DEATH(SetUpLayer(2), "scale: min_value and max_value are for a learned scale, not for one that is a bottom");
  param_.mutable_scale_param()->set_max_value(2);
  EXPECT_DEATH(SetUpLayer(1), "\\(3 vs. 2\\) Layer scale: expected a min_value of max_value at most");
}

}  // namespace caffe
