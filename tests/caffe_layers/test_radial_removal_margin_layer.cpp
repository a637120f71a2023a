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
#include "caffe/layers/radial_removal_margin_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class RadialRemovalMarginLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  RadialRemovalMarginLayerTest() {
    Caffe::set_random_seed(1701);
    vector<int> shape(2);
    shape[0] = 6;
    shape[1] = 4;
    x_.Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_min(-0.94);
    filler_param.set_max(0.94);
    UniformFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    label_.Reshape(vector<int>(1, 6));
    for (int i = 0; i < 6; ++i) {
      label_.mutable_cpu_data()[i] = i * i % 4;
    }
    bottom_vec_.push_back(&x_);
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

  vector<Dtype> Scores() const { return vector<Dtype>(x_.cpu_data(), x_.cpu_data() + x_.count()); }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(RadialRemovalMarginLayerTest, TestDtypesAndDevices);

TYPED_TEST(RadialRemovalMarginLayerTest, TestForward) {
  typedef typename TypeParam::Dtype Dtype;
  this->label_.mutable_cpu_data()[4] = -1;
  this->top_vec_.push_back(&this->report_);
  Blob<Dtype> scales(vector<int>(1, 6));
  for (int i = 0; i < 6; ++i) {
    scales.mutable_cpu_data()[i] = 2 + 3 * i;
  }
  for (int k = 0; k < 3; ++k) {
    this->Parse("radial_removal_margin_param { scale: 7 }");
    if (k == 2) {
      this->bottom_vec_.push_back(&scales);
    }
    this->top_vec_[0] = k == 1 ? &this->x_ : &this->y_;
    RadialRemovalMarginLayer<Dtype> layer(this->param_);
    const vector<Dtype> x = this->Scores();
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    layer.Forward(this->bottom_vec_, this->top_vec_);
    double report[] = {0, 0, 0, 0};
    for (int i = 0; i < 6; ++i) {
      const int own = this->label_.cpu_data()[i];
      const double scale = k == 2 ? scales.cpu_data()[i] : 7;
      double exponentials = 0, weighted = 0, largest = -1;
      for (int j = 0; j < 4; ++j) {
        if (j != own) {
          exponentials += std::exp(scale * x[i * 4 + j]);
          weighted += x[i * 4 + j] * std::exp(scale * x[i * 4 + j]);
          largest = std::max<double>(largest, x[i * 4 + j]);
        }
      }
      for (int j = 0; j < 4; ++j) {
        EXPECT_NEAR(j == own ? weighted / exponentials : x[i * 4 + j], this->top_vec_[0]->cpu_data()[i * 4 + j], 1e-5);
      }
      if (own >= 0) {
        report[0] += x[i * 4 + own] / 5.;
        report[1] += largest / 5;
        report[2] += (x[i * 4 + own] - weighted / exponentials) / 5;
        report[3] += std::log(exponentials) / scale / 5;
      }
    }
    for (int n = 0; n < 4; ++n) {
      EXPECT_NEAR(report[n], this->report_.cpu_data()[n], 1e-5);
    }
    this->Backward(&layer);
    for (int i = 0; i < 24; ++i) {
      EXPECT_EQ(Dtype(this->Slope(i)), this->x_.cpu_diff()[i]);
    }
    caffe_copy(24, &x[0], this->x_.mutable_cpu_data());
  }
}

TYPED_TEST(RadialRemovalMarginLayerTest, TestTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("");
  this->param_.set_phase(TEST);
  this->label_.mutable_cpu_data()[3] = 77;
  RadialRemovalMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(this->x_.cpu_data()[i], this->y_.cpu_data()[i]);
  }
}

}  // namespace caffe
