#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/channel_scale_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

namespace {

vector<int> Shape(int axes, int a, int b = 0, int c = 0, int d = 0) {
  const int sizes[] = {a, b, c, d};
  return vector<int>(sizes, sizes + axes);
}

}  // namespace

template <typename TypeParam>
class ChannelScaleLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  ChannelScaleLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(4, 3, 4, 2, 3), Shape(4, 3, 1, 2, 3));
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&s_);
    top_vec_.push_back(&top_);
  }

  void Fill(const vector<int>& x_shape, const vector<int>& s_shape) {
    x_.Reshape(x_shape);
    s_.Reshape(s_shape);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    filler.Fill(&s_);
  }

  // The scale's index for the index i of x.
  int At(int i) const {
    const int positions = x_.count(2);
    return i / x_.count(1) * positions + i % positions;
  }

  void ExpectScaled() {
    ASSERT_EQ(x_.shape_string(), top_.shape_string());
    for (int i = 0; i < x_.count(); ++i) {
      EXPECT_NEAR(x_.cpu_data()[i] * s_.cpu_data()[At(i)], top_.cpu_data()[i], 1e-6);
    }
  }

  Blob<Dtype> x_, s_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(ChannelScaleLayerTest, TestDtypesAndDevices);

TYPED_TEST(ChannelScaleLayerTest, TestForwardOfAnyShape) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("ChannelScale");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  layer->SetUp(this->bottom_vec_, this->top_vec_);
  const vector<int> shapes[][2] = {
      {Shape(4, 3, 4, 2, 3), Shape(4, 3, 1, 2, 3)}, {Shape(4, 5, 2, 3, 2), Shape(3, 5, 3, 2)},
      {Shape(3, 3, 4, 2), Shape(2, 3, 2)},          {Shape(4, 3, 70, 1, 1), Shape(1, 3)},
      {Shape(4, 2, 40, 1, 1), Shape(4, 2, 1, 1, 1)}, {Shape(2, 3, 4), Shape(2, 3, 1)},
      {Shape(4, 1, 1, 1, 1), Shape(1, 1)},          {Shape(4, 1, 1, 2, 2), Shape(4, 1, 1, 2, 2)}};
  for (int i = 0; i < 8; ++i) {
    this->Fill(shapes[i][0], shapes[i][1]);
    layer->Reshape(this->bottom_vec_, this->top_vec_);
    for (int pass = 0; pass < 2; ++pass) {
      layer->Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectScaled();
    }
  }
}

TYPED_TEST(ChannelScaleLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  ChannelScaleLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(ChannelScaleLayerTest, TestGradientOfRows) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(Shape(4, 3, 7, 1, 1), Shape(1, 3));
  LayerParameter param;
  ChannelScaleLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

TYPED_TEST(ChannelScaleLayerTest, TestGradientOfOneSampleAndChannel) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(Shape(2, 1, 1), Shape(1, 1));
  LayerParameter param;
  ChannelScaleLayer<Dtype> layer(param);
  GradientChecker<Dtype> checker(1e-2, 1e-3);
  checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
}

// Of the fork: every switch changes one of the three alone.
TYPED_TEST(ChannelScaleLayerTest, TestSwitches) {
  typedef typename TypeParam::Dtype Dtype;
  for (int rows = 0; rows < 2; ++rows) {
    if (rows) {
      this->Fill(Shape(2, 3, 70), Shape(1, 3));
    }
    for (int switches = 0; switches < 8; ++switches) {
      const bool forward = switches & 1, feature = switches & 2, scale = switches & 4;
      LayerParameter param;
      param.mutable_channel_scale_param()->set_do_forward(forward);
      param.mutable_channel_scale_param()->set_do_backward_feature(feature);
      param.mutable_channel_scale_param()->set_do_backward_scale(scale);
      ChannelScaleLayer<Dtype> layer(param);
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      const int count = this->x_.count();
      for (int i = 0; i < count; ++i) {
        this->top_.mutable_cpu_diff()[i] = i % 5 - 2;
      }
      vector<Dtype> ds(this->s_.count(), 0);
      for (int pass = 0; pass < 2; ++pass) {  // gradients are set, not added
        layer.Backward(this->top_vec_, vector<bool>(2, true), this->bottom_vec_);
      }
      for (int i = 0; i < count; ++i) {
        const Dtype x = this->x_.cpu_data()[i], s = this->s_.cpu_data()[this->At(i)], g = this->top_.cpu_diff()[i];
        EXPECT_NEAR(forward ? s * x : x, this->top_.cpu_data()[i], 1e-6);
        EXPECT_NEAR(feature ? s * g : g, this->x_.cpu_diff()[i], 1e-6);
        ds[this->At(i)] += scale ? g * x : 0;
      }
      for (int i = 0; i < this->s_.count(); ++i) {
        EXPECT_NEAR(ds[i], this->s_.cpu_diff()[i], 1e-4);
      }
    }
  }
}

TYPED_TEST(ChannelScaleLayerTest, TestZeros) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(this->x_.count(), Dtype(0), this->x_.mutable_cpu_data());
  caffe_set(this->s_.count(), Dtype(0), this->s_.mutable_cpu_data());
  LayerParameter param;
  ChannelScaleLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(2, true), this->bottom_vec_);
  for (int i = 0; i < this->x_.count(); ++i) {
    EXPECT_EQ(0, this->top_.cpu_data()[i]);
    EXPECT_EQ(0, this->x_.cpu_diff()[i]);
    EXPECT_EQ(0, this->s_.cpu_diff()[this->At(i)]);
  }
}

TYPED_TEST(ChannelScaleLayerTest, TestNoGradientUnlessAsked) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  ChannelScaleLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
  for (int asked = 0; asked < 2; ++asked) {
    vector<bool> propagate_down(2, false);
    propagate_down[asked] = true;
    for (int i = 0; i < 2; ++i) {
      caffe_set(this->bottom_vec_[i]->count(), Dtype(7), this->bottom_vec_[i]->mutable_cpu_diff());
    }
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    EXPECT_NE(7, this->bottom_vec_[asked]->cpu_diff()[0]);
    EXPECT_EQ(7, this->bottom_vec_[1 - asked]->cpu_diff()[0]);
  }
}

class ChannelScaleLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  ChannelScaleLayerDeathTest() { param_.set_name("gnap"); }

  void SetUpLayer(const vector<int>& x_shape, const vector<int>& s_shape, int top_index) {
    Blob<float> x(x_shape), s(s_shape), top;
    Blob<float>* blobs[] = {&x, &s, &top};
    vector<Blob<float>*> bottom_vec(blobs, blobs + 2), top_vec(1, blobs[top_index]);
    ChannelScaleLayer<float> layer(param_);
    layer.SetUp(bottom_vec, top_vec);
  }

  LayerParameter param_;
};

TEST_F(ChannelScaleLayerDeathTest, TestRefused) {
  const vector<int> x = Shape(3, 3, 4, 2);
  EXPECT_DEATH(SetUpLayer(x, Shape(2, 3, 2), 0), "gnap: expected a top of another name than the bottoms'");
  EXPECT_DEATH(SetUpLayer(x, Shape(2, 3, 2), 1), "gnap: expected a top of another name than the bottoms'");
  EXPECT_DEATH(SetUpLayer(Shape(1, 3), Shape(1, 3), 2), "gnap: expected a bottom 0 of 2 axes or more .*, got 3 ");
  const char* message = "gnap: expected a scale for each of 3 images and 2 positions as bottom 1, got ";
  EXPECT_DEATH(SetUpLayer(x, Shape(1, 3), 2), message);
  EXPECT_DEATH(SetUpLayer(x, Shape(2, 2, 3), 2), message);
  EXPECT_DEATH(SetUpLayer(x, vector<int>(), 2), message);
  param_.mutable_channel_scale_param()->set_global_scale(true);
  EXPECT_DEATH(SetUpLayer(x, Shape(2, 3, 2), 2), "gnap: global_scale is not supported");
}

}  // namespace caffe
