#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/flip_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class FlipLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FlipLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(2, 3, 4, 5);
    bottom_vec_.push_back(&x_);
    top_vec_.push_back(&top_);
  }

  void Fill(int num, int channels, int height, int width) {
    x_.Reshape(num, channels, height, width);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
  }

  static LayerParameter Param(bool flip_width, bool flip_height) {
    LayerParameter param;
    param.mutable_flip_param()->set_flip_width(flip_width);
    param.mutable_flip_param()->set_flip_height(flip_height);
    return param;
  }

  // Where the number (n, c, h, w) of the result comes from.
  int Origin(bool flip_width, bool flip_height, int n, int c, int h, int w) {
    return x_.offset(n, c, flip_height ? x_.height() - 1 - h : h, flip_width ? x_.width() - 1 - w : w);
  }

  void ExpectFlipped(bool flip_width, bool flip_height) {
    ASSERT_EQ(x_.shape_string(), top_.shape_string());
    for (int n = 0; n < x_.num(); ++n) {
      for (int c = 0; c < x_.channels(); ++c) {
        for (int h = 0; h < x_.height(); ++h) {
          for (int w = 0; w < x_.width(); ++w) {
            EXPECT_EQ(x_.cpu_data()[Origin(flip_width, flip_height, n, c, h, w)], top_.data_at(n, c, h, w));
          }
        }
      }
    }
  }

  Blob<Dtype> x_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FlipLayerTest, TestDtypesAndDevices);

TYPED_TEST(FlipLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int flips = 0; flips < 4; ++flips) {
    const bool flip_width = flips % 2, flip_height = flips / 2;
    FlipLayer<Dtype> layer(this->Param(flip_width, flip_height));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->ExpectFlipped(flip_width, flip_height);
    }
  }
}

TYPED_TEST(FlipLayerTest, TestWidthIsTheDefault) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_type("Flip");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  layer->SetUp(this->bottom_vec_, this->top_vec_);
  layer->Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectFlipped(true, false);
}

TYPED_TEST(FlipLayerTest, TestOtherSizes) {
  typedef typename TypeParam::Dtype Dtype;
  FlipLayer<Dtype> layer(this->Param(true, true));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  const int sizes[][4] = {{5, 3, 4, 5}, {1, 1, 3, 2}, {1, 1, 1, 1}, {2, 3, 4, 5}};
  for (int i = 0; i < 4; ++i) {
    this->Fill(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    layer.Reshape(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectFlipped(true, true);
  }
}

TYPED_TEST(FlipLayerTest, TestBackward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int flips = 0; flips < 4; ++flips) {
    const bool flip_width = flips % 2, flip_height = flips / 2;
    FlipLayer<Dtype> layer(this->Param(flip_width, flip_height));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < this->top_.count(); ++i) {
      this->top_.mutable_cpu_diff()[i] = i;
    }
    for (int pass = 0; pass < 2; ++pass) {  // the gradient is set, not added
      layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      for (int n = 0; n < 2; ++n) {
        for (int c = 0; c < 3; ++c) {
          for (int h = 0; h < 4; ++h) {
            for (int w = 0; w < 5; ++w) {
              EXPECT_EQ(this->top_.diff_at(n, c, h, w),
                  this->x_.cpu_diff()[this->Origin(flip_width, flip_height, n, c, h, w)]);
            }
          }
        }
      }
    }
  }
}

TYPED_TEST(FlipLayerTest, TestNoGradientUnlessAsked) {
  typedef typename TypeParam::Dtype Dtype;
  FlipLayer<Dtype> layer(this->Param(true, false));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->x_.count(), Dtype(7), this->x_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, false), this->bottom_vec_);
  EXPECT_EQ(7, this->x_.cpu_diff()[0]);
}

TYPED_TEST(FlipLayerTest, TestGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(2, 1, 2, 3);
  for (int flips = 0; flips < 4; ++flips) {
    FlipLayer<Dtype> layer(this->Param(flips % 2, flips / 2));
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientExhaustive(&layer, this->bottom_vec_, this->top_vec_);
  }
}

class FlipLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  void SetUpLayer(const vector<int>& shape, bool in_place) {
    LayerParameter param;
    param.set_name("mirror");
    Blob<float> x(shape), top;
    vector<Blob<float>*> bottom_vec(1, &x), top_vec(1, in_place ? &x : &top);
    FlipLayer<float> layer(param);
    layer.SetUp(bottom_vec, top_vec);
  }
};

TEST_F(FlipLayerDeathTest, TestRefused) {
  EXPECT_DEATH(SetUpLayer(vector<int>(4, 2), true), "mirror: expected a top of another name");
  EXPECT_DEATH(SetUpLayer(vector<int>(3, 2), false), "mirror: expected a bottom of 4 axes .N, C, H, W., got 2 2 2 ");
}

}  // namespace caffe
