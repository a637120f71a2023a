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
#include "caffe/layers/inter_class_layer.hpp"
#include "caffe/util/math_functions.hpp"

#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"

namespace caffe {

template <typename TypeParam>
class InterClassLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  InterClassLayerTest() {
    Caffe::set_random_seed(1701);
    Fill(Shape(5, 3), &x_);
    const int labels[] = {2, 0, -1, 3, 2};
    SetLabels(labels, 5);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  void Parse(const string& text) {
    param_.Clear();
    param_.set_phase(TRAIN);
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param_));
  }

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
  /// Forward and Backward with the loss_weight 0.5; the gradients in x.
  void Run(Layer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    top_vec_[0]->mutable_cpu_diff()[0] = 0.5;
    vector<bool> propagate_down(bottom_vec_.size(), false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, report_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(InterClassLayerTest, TestDtypesAndDevices);

TYPED_TEST(InterClassLayerTest, TestTopAndStep) {
  typedef typename TypeParam::Dtype Dtype;
  const char* types[] = {"MEAN", "AMONG"};
  for (int k = 0; k < 4; ++k) {
    const bool among = k % 2, normalize = k / 2;
    this->Parse(string("inter_class_param { num_output: 4 alpha_start_value: 3 normalize: ")
        + (normalize ? "true" : "false") + " type: " + types[k % 2] + " weight_filler { type: 'gaussian' } }");
    InterClassLayer<Dtype> layer(this->param_);
    layer.SetUp(this->bottom_vec_, this->top_vec_);
    Blob<Dtype>* w = layer.blobs()[0].get();
    caffe_set(12, Dtype(1), w->mutable_cpu_diff());
    layer.Forward(this->bottom_vec_, this->top_vec_);
    layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
    double u[] = {0, 0, 0}, length = 1e-5, distance = among ? 0 : 1;
    for (int d = 0; d < 3; ++d) {
      for (int j = 0; j < 4; ++j) {
        u[d] += w->cpu_data()[j * 3 + d] / 4.;
      }
      length += u[d] * u[d];
    }
    vector<double> step(12, 1.);
    for (int i = 0; i < 5; ++i) {
      const int y = this->label_.cpu_data()[i];
      for (int d = 0; d < 3 && y >= 0; ++d) {
        if (!among) {
          distance -= (normalize ? u[d] / std::sqrt(length) : u[d]) * w->cpu_data()[y * 3 + d] / 4;
        }
        for (int j = 0; j < 4 && among; ++j) {
          const double apart = w->cpu_data()[j * 3 + d] - w->cpu_data()[y * 3 + d];
          distance += apart * apart / 4;
        }
      }
    }
    for (int i = 0; i < 5; ++i) {
      const int y = this->label_.cpu_data()[i];
      for (int d = 0; d < 3 && y >= 0; ++d) {
        const double mean = normalize ? u[d] / std::sqrt(length) : u[d];
        step[y * 3 + d] += among ? -12 * (w->cpu_data()[y * 3 + d] - mean) / (4 * distance * distance + 1e-5)
            : 3 * mean / 4;
      }
    }
    EXPECT_NEAR(distance, this->y_.cpu_data()[0], 1e-4 * (1 + std::abs(distance)));
    for (int j = 0; j < 12; ++j) {
      EXPECT_NEAR(step[j], w->cpu_diff()[j], 1e-4);
    }
  }
}

TYPED_TEST(InterClassLayerTest, TestManySamples) {  // more than a block has threads, and than there are blocks
  typedef typename TypeParam::Dtype Dtype;
  const int count = 700;
  vector<int> labels(count);
  vector<double> own(4, 0);
  for (int i = 0; i < count; ++i) {
    labels[i] = i % 7 == 3 ? -1 : i / 8 % 3;  // class 3 has no sample
    if (labels[i] >= 0) {
      ++own[labels[i]];
    }
  }
  this->Fill(this->Shape(count, 3), &this->x_);
  this->SetLabels(&labels[0], count);
  this->Parse("inter_class_param { num_output: 4 alpha_start_value: 3 normalize: false type: MEAN "
      "weight_filler { type: 'gaussian' } }");
  InterClassLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  Blob<Dtype>* w = layer.blobs()[0].get();
  caffe_set(12, Dtype(1), w->mutable_cpu_diff());
  layer.Forward(this->bottom_vec_, this->top_vec_);
  layer.Backward(this->top_vec_, vector<bool>(2, false), this->bottom_vec_);
  double distance = 1;
  for (int d = 0; d < 3; ++d) {
    double u = 0;
    for (int j = 0; j < 4; ++j) {
      u += w->cpu_data()[j * 3 + d] / 4.;
    }
    for (int j = 0; j < 4; ++j) {
      distance -= own[j] / 600 * u * w->cpu_data()[j * 3 + d];
      EXPECT_NEAR(1 + own[j] / 600 * 3 * u, w->cpu_diff()[j * 3 + d], 1e-4);
    }
  }
  EXPECT_NEAR(distance, this->y_.cpu_data()[0], 1e-4);
}

TYPED_TEST(InterClassLayerTest, TestSchedule) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("inter_class_param { num_output: 4 iteration: 2 alpha_start_iter: 4 alpha_start_value: 5 alpha_step: 0.5 "
      "alpha_stepvalue: 5 alpha_stepvalue: 7 }");
  this->top_vec_.push_back(&this->report_);
  InterClassLayer<Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, layer.loss(1));
  const double alphas[] = {0, 5, 5.5, 5.5, 6, 6};
  for (int pass = 0; pass < 6; ++pass) {
    layer.Forward(this->bottom_vec_, this->top_vec_);
    EXPECT_NEAR(alphas[pass], this->report_.cpu_data()[0], 1e-6);
  }
}

TYPED_TEST(InterClassLayerTest, TestFeaturesGetNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->Parse("inter_class_param { num_output: 4 }");
  InterClassLayer<Dtype> layer(this->param_);
  this->Run(&layer);
  EXPECT_EQ(0, this->x_.asum_diff());
}

}  // namespace caffe
