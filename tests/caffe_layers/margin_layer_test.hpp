#ifndef CAFFE_TEST_MARGIN_LAYER_TEST_HPP_
#define CAFFE_TEST_MARGIN_LAYER_TEST_HPP_

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// What the tests of the layers with psi(theta) share: eight samples of six features, their labels, four classes, and
/// the scores by the formula.
template <typename TypeParam>
class MarginLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  MarginLayerTest() {
    Caffe::set_random_seed(1701);
    param_.set_phase(TRAIN);
    Fill(8);
    bottom_vec_.push_back(&x_);
    bottom_vec_.push_back(&label_);
    top_vec_.push_back(&y_);
  }

  /// Six features a sample, as (samples, 3, 2); labels with each class twice or more.
  void Fill(int samples) {
    vector<int> shape(3);
    shape[0] = samples;
    shape[1] = 3;
    shape[2] = 2;
    x_.Reshape(shape);
    FillerParameter filler_param;
    filler_param.set_std(0.5);
    GaussianFiller<Dtype> filler(filler_param);
    filler.Fill(&x_);
    label_.Reshape(vector<int>(1, samples));
    for (int i = 0; i < samples; ++i) {
      label_.mutable_cpu_data()[i] = i * i % 4 + (i % 3 == 2 ? 2 : 0);
    }
    label_.mutable_cpu_data()[0] = 1;
  }

  /// Turns the samples so that their angles to the rows of their labels lie in all intervals of psi, not at an end.
  void TurnToAllAngles(const Blob<Dtype>& weight) {
    const double degrees[] = {10, 39, 54, 80, 100, 126, 150, 172};
    for (int i = 0; i < x_.shape(0); ++i) {
      const Dtype* w = weight.cpu_data() + static_cast<int>(label_.cpu_data()[i]) * 6;
      Dtype* x = x_.mutable_cpu_data() + i * 6;
      const double w_length = std::sqrt(Dot(w, w));
      const double x_length = std::sqrt(Dot(x, x));
      const double along = Dot(x, w) / w_length / w_length;
      for (int k = 0; k < 6; ++k) {
        x[k] -= along * w[k];
      }
      const double across = std::sqrt(Dot(x, x));
      const double theta = degrees[i % 8] * Pi() / 180;
      for (int k = 0; k < 6; ++k) {
        x[k] = x_length * (std::sin(theta) * x[k] / across + std::cos(theta) * w[k] / w_length);
      }
    }
  }

  static double Pi() { return 3.14159265358979323846; }

  template <typename A, typename B>
  static double Dot(const A* a, const B* b) {
    double sum = 0;
    for (int k = 0; k < 6; ++k) {
      sum += static_cast<double>(a[k]) * b[k];
    }
    return sum;
  }

  /// psi and its derivative by cos(theta), from the angle.
  static void Psi(int m, double theta, double* psi, double* slope) {
    const int k = std::min(m - 1, static_cast<int>(std::floor(m * theta / Pi())));
    const int sign = k % 2 ? -1 : 1;
    *psi = sign * std::cos(m * theta) - 2 * k;
    *slope = sign * m * std::sin(m * theta) / std::sin(theta);
  }

  /// Of the rows w (4, 6) that the layer computes with.
  void ExpectScores(const vector<double>& w, int m, double lambda) {
    for (int i = 0; i < label_.count(); ++i) {
      const Dtype* x = x_.cpu_data() + i * 6;
      for (int j = 0; j < 4; ++j) {
        double score = Dot(x, &w[j * 6]);
        if (m > 1 && j == label_.cpu_data()[i]) {
          const double lengths = std::sqrt(Dot(x, x) * Dot(&w[j * 6], &w[j * 6]));
          double psi, slope;
          Psi(m, std::acos(score / lengths), &psi, &slope);
          score = (lengths * psi + lambda * score) / (1 + lambda);
        }
        EXPECT_NEAR(score, y_.cpu_data()[i * 4 + j], 1e-4) << "sample " << i << ", class " << j << ", m " << m;
      }
    }
  }

  void FillTopDiff() {
    for (int i = 0; i < y_.count(); ++i) {
      y_.mutable_cpu_diff()[i] = (i * 5 % 7) - Dtype(2.5);
    }
  }

  void Backward(Layer<Dtype>* layer) {
    vector<bool> propagate_down(2, false);
    propagate_down[0] = true;
    layer->Backward(top_vec_, propagate_down, bottom_vec_);
  }

  LayerParameter param_;
  Blob<Dtype> x_, label_, y_, lambda_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

}  // namespace caffe

#endif  // CAFFE_TEST_MARGIN_LAYER_TEST_HPP_
