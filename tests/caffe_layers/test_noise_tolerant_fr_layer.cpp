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
#include "caffe/layers/noise_tolerant_fr_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class NoiseTolerantFrLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  NoiseTolerantFrLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(200, 2), &x_);
    Fill(Shape(200, 3), &cosines_, 0.1);
    label_.Reshape(vector<int>(1, 200));
    for (int i = 0; i < 200; ++i) {
      label_.mutable_cpu_data()[i] = i == 199 ? -1 : 1;
      cosines_.mutable_cpu_data()[i * 3 + 1] += i % 3 == 0 ? -0.4 : 0.4;
    }
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&cosines_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  void Parse(const string& text) {
    param_.Clear();
    param_.set_phase(TRAIN);
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param_));
  }
  void Backward(Layer<Dtype>* layer) {
    for (int i = 0; i < top_vec_[0]->count(); ++i) {
      top_vec_[0]->mutable_cpu_diff()[i] = Slope(i);
    }
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }
  static double Slope(int i) { return (i * 5 % 7) - 2.5; }

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

  Blob<Dtype> cosines_;

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(NoiseTolerantFrLayerTest, TestDtypesAndDevices);

TYPED_TEST(NoiseTolerantFrLayerTest, TestWeightsOfTwoHumps) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("noise_tolerant_fr_param { slide_batch_num: 2 bins: 40 start_iter: 2 }");
  for (int shielded = 0; shielded < 2; ++shielded) {
    this->param_.mutable_noise_tolerant_fr_param()->set_shield_forward(shielded);
    NoiseTolerantFRLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    for (int i = 0; i < this->x_.count(); ++i) {
      EXPECT_EQ(this->x_.cpu_data()[i], this->y_.cpu_data()[i]);  // not yet
    }
    layer.Forward(this->bottom_vec_, this->top_vec_);
    this->Backward(&layer);
    // Of the humps around -0.4 (noise) and 0.4 the left peak is at -0.4: samples there are left out nearly, and the
    // others count the more the further right.
    double last = 0;
    for (int i = 0; i < 200; ++i) {
      const double weight = this->x_.cpu_diff()[i * 2] / this->Slope(i * 2);
      const double cosine = this->cosines_.cpu_data()[i * 3 + 1];
      EXPECT_NEAR(weight * this->Slope(i * 2 + 1), this->x_.cpu_diff()[i * 2 + 1], 1e-5);
      EXPECT_NEAR((shielded ? 1 : weight) * this->x_.cpu_data()[i * 2], this->y_.cpu_data()[i * 2], 1e-5);
      EXPECT_GE(weight, 0);
      EXPECT_LE(weight, 1 + 1e-5);
      if (i == 199) {
        EXPECT_EQ(1, weight);  // without a class
      } else if (cosine < -0.3) {
        last = std::max(last, weight);
      }
    }
    for (int i = 0; i < 199; ++i) {
      if (this->cosines_.cpu_data()[i * 3 + 1] > 0.3) {
        EXPECT_GT(this->x_.cpu_diff()[i * 2] / this->Slope(i * 2), last);
      }
    }
  }
}

TYPED_TEST(NoiseTolerantFrLayerTest, TestOneValueIsNoDistribution) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("noise_tolerant_fr_param { slide_batch_num: 1 }");
  caffe_set(this->cosines_.count(), Dtype(-1), this->cosines_.mutable_cpu_data());
  NoiseTolerantFRLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->Backward(&layer);
  for (int i = 0; i < 398; ++i) {
    EXPECT_EQ(this->x_.cpu_data()[i], this->y_.cpu_data()[i]);
    EXPECT_LE(std::abs(this->x_.cpu_diff()[i]), std::abs(this->Slope(i)) + 1e-5);
  }
}

TYPED_TEST(NoiseTolerantFrLayerTest, TestInPlaceAndTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("noise_tolerant_fr_param { slide_batch_num: 1 bins: 40 }");
  for (int train = 0; train < 2; ++train) {
    this->param_.set_phase(train ? TRAIN : TEST);
    vector<Dtype> apart, slopes;
    for (int in_place = 0; in_place < 2; ++in_place) {
      this->top_vec_[0] = in_place ? &this->x_ : &this->y_;
      NoiseTolerantFRLayer<Dtype> layer(this->param_);
      layer.SetUp(this->bottom_vec_, this->top_vec_);
      const vector<Dtype> x(this->x_.cpu_data(), this->x_.cpu_data() + 400);
      layer.Forward(this->bottom_vec_, this->top_vec_);
      this->Backward(&layer);
      if (!in_place) {
        apart.assign(this->y_.cpu_data(), this->y_.cpu_data() + 400);
        slopes.assign(this->x_.cpu_diff(), this->x_.cpu_diff() + 400);
      }
      for (int i = 0; i < 400; ++i) {
        EXPECT_EQ(apart[i], this->top_vec_[0]->cpu_data()[i]);
        EXPECT_EQ(slopes[i], this->x_.cpu_diff()[i]);
        if (!train) {
          EXPECT_EQ(x[i], apart[i]);
        }
      }
      caffe_copy(400, &x[0], this->x_.mutable_cpu_data());
    }
  }
}

}  // namespace caffe
