#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/face_layers_config.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/face_parameter_layer.hpp"
#include "caffe/util/math_functions.hpp"
#ifdef CAFFE_FACE_STOCK_PARAMETER
#include "caffe/layers/parameter_layer.hpp"
#endif

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

template <typename TypeParam>
class FaceParameterLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  FaceParameterLayerTest() {
    Caffe::set_random_seed(1701);
    top_vec_.push_back(&top_);
  }

  static LayerParameter Param() {
    LayerParameter param;
    param.mutable_parameter_param()->mutable_shape()->add_dim(3);
    param.mutable_parameter_param()->mutable_shape()->add_dim(4);
    return param;
  }

  Blob<Dtype> top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(FaceParameterLayerTest, TestDtypesAndDevices);

TYPED_TEST(FaceParameterLayerTest, TestFiller) {
  typedef typename TypeParam::Dtype Dtype;
  for (int filled = 0; filled < 2; ++filled) {
    LayerParameter param = this->Param();
    if (filled) {
      param.mutable_parameter_param()->mutable_blob_filler()->set_value(2.5);
    }
    FaceParameterLayer<Dtype> layer(param);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    ASSERT_EQ(1, layer.blobs().size());
    for (int pass = 0; pass < 2; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      EXPECT_EQ("3 4 (12)", this->top_.shape_string());
      for (int i = 0; i < 12; ++i) {
        EXPECT_EQ(filled ? 2.5 : 0, this->top_.cpu_data()[i]);
      }
    }
  }
}

TYPED_TEST(FaceParameterLayerTest, TestTopIsTheBlob) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param();
  param.mutable_parameter_param()->mutable_blob_filler()->set_type("gaussian");
  FaceParameterLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  Blob<Dtype>* blob = layer.blobs()[0].get();
  EXPECT_NE(blob->cpu_data()[0], blob->cpu_data()[1]);
  EXPECT_EQ(blob->cpu_data(), this->top_.cpu_data());
  caffe_set(12, Dtype(1), blob->mutable_cpu_diff());
  caffe_set(12, Dtype(7), this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(), this->bottom_vec_);
  EXPECT_EQ(8, blob->cpu_diff()[11]);
  layer.set_param_propagate_down(0, false);
  layer.Backward(this->top_vec_, vector<bool>(), this->bottom_vec_);
  EXPECT_EQ(8, blob->cpu_diff()[11]);
}

TYPED_TEST(FaceParameterLayerTest, TestGivenBlobIsKept) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param();
  param.mutable_parameter_param()->mutable_blob_filler()->set_value(2.5);
  BlobProto* blob = param.add_blobs();
  blob->mutable_shape()->CopyFrom(param.parameter_param().shape());
  for (int i = 0; i < 12; ++i) {
    blob->add_data(i);
  }
  FaceParameterLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(i, this->top_.cpu_data()[i]);
  }
}

// The gradients that a reader of the top gives to it, pass after pass, add up in the blob.
TYPED_TEST(FaceParameterLayerTest, TestGradientFromReader) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param();
  param.mutable_parameter_param()->mutable_blob_filler()->set_value(7);
  FaceParameterLayer<Dtype> layer(param);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  caffe_set(12, Dtype(0), layer.blobs()[0]->mutable_cpu_diff());
  for (int pass = 1; pass < 3; ++pass) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < 12; ++i) {
      EXPECT_EQ(7, this->top_.cpu_data()[i]);
      this->top_.mutable_cpu_diff()[i] = 2 * (i - 5);
    }
    layer.Backward(this->top_vec_, vector<bool>(), this->bottom_vec_);
    for (int i = 0; i < 12; ++i) {
      EXPECT_EQ(pass * 2 * (i - 5), layer.blobs()[0]->cpu_diff()[i]);
    }
  }
}

TYPED_TEST(FaceParameterLayerTest, TestCreator) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param();
  param.set_type("Parameter");
  shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
#ifdef CAFFE_FACE_STOCK_PARAMETER
  EXPECT_TRUE(dynamic_cast<ParameterLayer<Dtype>*>(layer.get()) != NULL);
#else
  EXPECT_TRUE(dynamic_cast<FaceParameterLayer<Dtype>*>(layer.get()) != NULL);
#endif
  param.mutable_parameter_param()->mutable_blob_filler();
  layer = LayerRegistry<Dtype>::CreateLayer(param);
  EXPECT_TRUE(dynamic_cast<FaceParameterLayer<Dtype>*>(layer.get()) != NULL);
  EXPECT_STREQ("Parameter", layer->type());
}

class FaceParameterLayerDeathTest : public CPUDeviceTest<float> {
 protected:
  static void SetUpLayer(const LayerParameter& param) {
    Blob<float> top;
    vector<Blob<float>*> top_vec(1, &top);
    FaceParameterLayer<float> layer(param);
    layer.SetUp(vector<Blob<float>*>(), top_vec);
  }
};

TEST_F(FaceParameterLayerDeathTest, TestRefused) {
  LayerParameter param;
  param.set_name("agents");
  param.mutable_parameter_param()->mutable_shape()->add_dim(3);
  param.add_blobs()->mutable_shape()->add_dim(2);
  param.mutable_blobs(0)->add_data(0);
  param.mutable_blobs(0)->add_data(0);
  EXPECT_DEATH(SetUpLayer(param), "agents: expected a blob of the shape 3 .3., got 2 .2.");
}

}  // namespace caffe
