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
#include "caffe/layers/global_lse_margin_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class GlobalLseMarginLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  GlobalLseMarginLayerTest() {
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
    scales_.Reshape(vector<int>(1, 6));
    for (int i = 0; i < 6; ++i) {
      scales_.mutable_cpu_data()[i] = 5 + i;
    }
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

  double Scale(int i, bool with_scales) const { return with_scales ? scales_.cpu_data()[i] : 6; }

  Blob<Dtype> scales_;

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(GlobalLseMarginLayerTest, TestDtypesAndDevices);

TYPED_TEST(GlobalLseMarginLayerTest, TestMarginOverPasses) {
  typedef typename TypeParam::Dtype Dtype;
  this->label_.mutable_cpu_data()[4] = -1;
  this->top_vec_.push_back(&this->report_);
  for (int i = 0; i < 6; ++i) {
    if (this->label_.cpu_data()[i] >= 0) {
      this->x_.mutable_cpu_data()[i * 4 + static_cast<int>(this->label_.cpu_data()[i])] = 0.9 - 0.05 * i;
    }
  }
  for (int with_scales = 0; with_scales < 2; ++with_scales) {
    if (with_scales) {
      this->bottom_vec_.push_back(&this->scales_);
    }
    this->Parse("scale_param { filler { value: 7 } max_value: 6 }");
    GlobalLSEMarginLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    double margin = 0;
    for (int pass = 0; pass < 3; ++pass) {
      layer.Forward(this->bottom_vec_, this->top_vec_);
      double mean = 0, squares = 0, soft = 0;
      for (int i = 0; i < 6; ++i) {
        const int own = this->label_.cpu_data()[i];
        double exponentials = 0;
        for (int j = 0; j < 4; ++j) {
          exponentials += j == own ? 0 : std::exp(this->Scale(i, with_scales) * this->x_.cpu_data()[i * 4 + j]);
        }
        if (own >= 0) {
          const double logarithm = std::log(1 - static_cast<double>(this->x_.cpu_data()[i * 4 + own]));
          mean += logarithm / 5;
          squares += logarithm * logarithm / 5;
          soft += std::log(exponentials) / this->Scale(i, with_scales) / 5;
        }
      }
      const double variance = (squares - mean * mean) * 5 * 5 / 16;
      const double apart = 1 - std::exp(mean - variance) - soft;
      margin = pass == 0 ? apart : 0.9 * margin + 0.1 * apart;
      EXPECT_GT(margin, 0);
      EXPECT_NEAR(margin, this->report_.cpu_data()[3], 1e-4);
      EXPECT_NEAR(margin, layer.blobs()[1]->cpu_data()[0], 1e-4);
      EXPECT_NEAR(soft, this->report_.cpu_data()[2], 1e-4);
      for (int i = 0; i < 24; ++i) {
        const bool own = i % 4 == this->label_.cpu_data()[i / 4];
        EXPECT_NEAR(this->Scale(i / 4, with_scales) * (this->x_.cpu_data()[i] - (own ? margin : 0.)),
            this->y_.cpu_data()[i], 2e-3);
      }
    }
    caffe_set(1, Dtype(1), layer.blobs()[0]->mutable_cpu_diff());
    for (int i = 0; i < 24; ++i) {
      this->y_.mutable_cpu_diff()[i] = this->Slope(i);
    }
    vector<bool> propagate_down(this->bottom_vec_.size(), true);
    propagate_down[1] = false;
    layer.Backward(this->top_vec_, propagate_down, this->bottom_vec_);
    double all = 1;
    for (int i = 0; i < 6; ++i) {
      double sum = 0;
      for (int j = 0; j < 4; ++j) {
        sum += this->Slope(i * 4 + j) * this->y_.cpu_data()[i * 4 + j] / this->Scale(i, with_scales);
        EXPECT_NEAR(this->Slope(i * 4 + j) * this->Scale(i, with_scales), this->x_.cpu_diff()[i * 4 + j], 1e-4);
      }
      all += sum;
      if (with_scales) {
        EXPECT_NEAR(sum, this->scales_.cpu_diff()[i], 1e-4);
      }
    }
    EXPECT_NEAR(with_scales ? 1 : all, layer.blobs()[0]->cpu_diff()[0], 1e-3);
    EXPECT_EQ(6, layer.blobs()[0]->cpu_data()[0]);  // bounded
  }
}

TYPED_TEST(GlobalLseMarginLayerTest, TestTheTestPhase) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("");
  this->param_.set_phase(TEST);
  this->label_.mutable_cpu_data()[3] = 77;
  GlobalLSEMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_NEAR(30 * this->x_.cpu_data()[i], this->y_.cpu_data()[i], 1e-4);
  }
}

TYPED_TEST(GlobalLseMarginLayerTest, TestScoresOfOne) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("");
  caffe_set(24, Dtype(1), this->x_.mutable_cpu_data());
  GlobalLSEMarginLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < 24; ++i) {
    EXPECT_LT(std::abs(this->y_.cpu_data()[i]), 100);
  }
}

}  // namespace caffe
