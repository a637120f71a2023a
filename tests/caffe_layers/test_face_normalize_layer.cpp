#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_normalize_layer.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class FaceNormalizeLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FaceNormalizeLayerTest() : bottom_(new Blob<Dtype>()), top_(new Blob<Dtype>()), norm_(new Blob<Dtype>()) {
    Caffe::set_random_seed(1701);
    bottom_vec_.push_back(bottom_.get());
    top_vec_.push_back(top_.get());
  }

  void Fill(int num, int channels, int height, int width) {
    bottom_->Reshape(num, channels, height, width);
    FillerParameter filler_param;
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(bottom_.get());
  }

  void Fill(int num, int channels) {
    Fill(num, channels, 1, 1);
    vector<int> shape(2);
    shape[0] = num;
    shape[1] = channels;
    bottom_->Reshape(shape);
  }

  LayerParameter L1() {
    LayerParameter param;
    param.mutable_normalize_param()->set_normalize_type("L1");
    return param;
  }

  Dtype Norm(int n, int s, bool l1, Dtype eps) {
    const int channels = bottom_->shape(1);
    const int spatial = bottom_->count(2);
    Dtype sum = 0;
    for (int c = 0; c < channels; ++c) {
      const Dtype x = bottom_->cpu_data()[(n * channels + c) * spatial + s];
      sum += l1 ? std::abs(x) : x * x;
    }
    return l1 ? sum + eps : std::sqrt(sum + eps);
  }

  void ExpectFormula(bool l1, Dtype eps) {
    const int channels = bottom_->shape(1);
    const int spatial = bottom_->count(2);
    for (int n = 0; n < bottom_->shape(0); ++n) {
      for (int s = 0; s < spatial; ++s) {
        const Dtype norm = Norm(n, s, l1, eps);
        for (int c = 0; c < channels; ++c) {
          const int i = (n * channels + c) * spatial + s;
          EXPECT_NEAR(bottom_->cpu_data()[i] / norm, top_->cpu_data()[i], 1e-6) << "at " << i;
        }
        if (top_vec_.size() > 1) {
          EXPECT_NEAR(norm, norm_->cpu_data()[n * spatial + s], 1e-5 * norm);
        }
      }
    }
  }

  void Check(const LayerParameter& param) {
    FaceNormalizeLayer<Dtype> layer(param);
    GradientChecker<Dtype> checker(1e-2, 1e-3);
    checker.CheckGradientExhaustive(&layer, bottom_vec_, top_vec_);
  }

  /// Numbers away from 0, where |x| has its kink.
  void KeepFromZero() {
    Dtype* x = bottom_->mutable_cpu_data();
    for (int i = 0; i < bottom_->count(); ++i) {
      x[i] += x[i] < 0 ? -0.1 : 0.1;
    }
  }

  shared_ptr<Blob<Dtype> > bottom_, top_, norm_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FaceNormalizeLayerTest, TestDtypesAndDevices);

TYPED_TEST(FaceNormalizeLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  for (int features = 1; features < 700; features = features * 3 + 1) {
    this->Fill(5, features);
    FaceNormalizeLayer<Dtype> layer((LayerParameter()));
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    ASSERT_EQ(4, this->top_->num_axes());
    EXPECT_EQ(5, this->top_->shape(0));
    EXPECT_EQ(features, this->top_->shape(1));
    this->ExpectFormula(false, 1e-6);
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestForwardSpatialWithNorm) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.push_back(this->norm_.get());
  this->Fill(2, 5, 3, 4);
  FaceNormalizeLayer<Dtype> layer((LayerParameter()));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("2 1 3 4 (24)", this->norm_->shape_string());
  this->ExpectFormula(false, 1e-6);
  // Another batch and image size, and the same numbers the second time.
  this->Fill(3, 5, 2, 1);
  layer.Reshape(this->bottom_vec_, this->top_vec_);
  for (int pass = 0; pass < 2; ++pass) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->ExpectFormula(false, 1e-6);
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestForwardL1) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.push_back(this->norm_.get());
  this->Fill(3, 6, 2, 2);
  FaceNormalizeLayer<Dtype> layer(this->L1());
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectFormula(true, 1e-6);
  this->Fill(3, 6);
  layer.Reshape(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectFormula(true, 1e-6);
}

TYPED_TEST(FaceNormalizeLayerTest, TestEps) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(2, 3);
  LayerParameter param;
  param.mutable_normalize_param()->set_eps(4);
  FaceNormalizeLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectFormula(false, 4);
}

TYPED_TEST(FaceNormalizeLayerTest, TestZeroVector) {
  typedef typename TypeParam::Dtype Dtype;
  for (int kind = 0; kind < 2; ++kind) {
    LayerParameter param = kind ? this->L1() : LayerParameter();
    this->Fill(2, 4);
    caffe_set(4, Dtype(0), this->bottom_->mutable_cpu_data());
    FaceNormalizeLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    caffe_set(8, Dtype(1), this->top_->mutable_cpu_diff());
    layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
    const Dtype norm = kind ? 1e-6 : 1e-3;
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(0, this->top_->cpu_data()[i]);
      EXPECT_NEAR(1 / norm, this->bottom_->cpu_diff()[i], 1e-4 / norm);
    }
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestInPlace) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(3, 7);
  Blob<Dtype> input;
  input.CopyFrom(*this->bottom_, false, true);
  FaceNormalizeLayer<Dtype> layer((LayerParameter()));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 21; ++i) {
    this->top_->mutable_cpu_diff()[i] = i % 5 - 2;
  }
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);

  Blob<Dtype> both;
  both.CopyFrom(input, false, true);
  vector<Blob<Dtype>*> both_vec(1, &both);
  FaceNormalizeLayer<Dtype> in_place((LayerParameter()));
  in_place.SetUp(both_vec, both_vec);
  in_place.Forward(both_vec, both_vec);
  EXPECT_EQ(2, both.num_axes());
  for (int i = 0; i < 21; ++i) {
    EXPECT_NEAR(this->top_->cpu_data()[i], both.cpu_data()[i], 1e-7);
    both.mutable_cpu_diff()[i] = i % 5 - 2;
  }
  in_place.Backward(both_vec, vector<bool>(1, true), both_vec);
  for (int i = 0; i < 21; ++i) {
    EXPECT_NEAR(this->bottom_->cpu_diff()[i], both.cpu_diff()[i], 1e-6);
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradient) {
  this->Fill(3, 5);
  this->Check(LayerParameter());
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradientOneSample) {
  this->Fill(1, 3);
  this->Check(LayerParameter());
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradientSpatial) {
  this->Fill(2, 3, 2, 2);
  this->Check(LayerParameter());
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradientL1) {
  this->Fill(2, 4);
  this->KeepFromZero();
  this->Check(this->L1());
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradientL1Spatial) {
  this->Fill(2, 3, 1, 3);
  this->KeepFromZero();
  this->Check(this->L1());
}

TYPED_TEST(FaceNormalizeLayerTest, TestGradientWithNorm) {
  this->top_vec_.push_back(this->norm_.get());
  for (int kind = 0; kind < 2; ++kind) {
    LayerParameter param = kind ? this->L1() : LayerParameter();
    param.mutable_normalize_param()->set_bp_norm(true);
    this->Fill(2, 3, 1, 2);
    this->KeepFromZero();
    this->Check(param);
    this->Fill(2, 4);
    this->KeepFromZero();
    this->Check(param);
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestNormWithoutGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->top_vec_.push_back(this->norm_.get());
  this->Fill(2, 4);
  FaceNormalizeLayer<Dtype> layer((LayerParameter()));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(8, Dtype(0), this->top_->mutable_cpu_diff());
  caffe_set(2, Dtype(3), this->norm_->mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(0, this->bottom_->cpu_diff()[i]);
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestFixGradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (int spatial = 1; spatial < 4; spatial += 2) {
    this->Fill(2, 4, 1, spatial);
    Blob<Dtype> plain;
    for (int fix = 0; fix < 2; ++fix) {
      LayerParameter param;
      param.mutable_normalize_param()->set_fix_gradient(fix == 1);
      FaceNormalizeLayer<Dtype> layer(param);
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      for (int i = 0; i < this->top_->count(); ++i) {
        this->top_->mutable_cpu_diff()[i] = i % 3 - 1;
      }
      layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
      if (!fix) {
        plain.CopyFrom(*this->bottom_, true, true);
      }
    }
    for (int n = 0; n < 2; ++n) {
      for (int c = 0; c < 4; ++c) {
        for (int s = 0; s < spatial; ++s) {
          const int i = (n * 4 + c) * spatial + s;
          EXPECT_NEAR(plain.cpu_diff()[i] * this->Norm(n, s, false, 1e-6), this->bottom_->cpu_diff()[i], 1e-5);
        }
      }
    }
  }
}

TYPED_TEST(FaceNormalizeLayerTest, TestCreator) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param;
  param.set_name("n");
  param.set_type("Normalize");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceNormalizeLayer<Dtype>*>(layer.get()) != NULL);
}

class FaceNormalizeLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  void SetUpLayer(const LayerParameter& param, const vector<int>& shape) {
    Blob<float> bottom(shape);
    Blob<float> top;
    vector<Blob<float>*> bottom_vec(1, &bottom);
    vector<Blob<float>*> top_vec(1, &top);
    FaceNormalizeLayer<float> layer(param);
    layer.SetUp(bottom_vec, top_vec);
  }
};

TEST_F(FaceNormalizeLayerDeathTest, TestRefused) {
  LayerParameter param;
  param.set_name("norm1");
  EXPECT_DEATH(SetUpLayer(param, vector<int>(1, 3)), "norm1: expected a bottom of 2 to 4 axes, got 3 ");
  EXPECT_DEATH(SetUpLayer(param, vector<int>(5, 2)), "expected a bottom of 2 to 4 axes");
  param.mutable_normalize_param()->set_normalize_type("L3");
  EXPECT_DEATH(SetUpLayer(param, vector<int>(2, 2)), "norm1: expected normalize_type .L2. or .L1., got .L3.");
  param.mutable_normalize_param()->set_normalize_type("L2");
  param.mutable_normalize_param()->set_eps(0);
  EXPECT_DEATH(SetUpLayer(param, vector<int>(2, 2)), "expected an eps above 0");
}

}  // namespace caffe
