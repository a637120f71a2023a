#ifndef NORMFACE_TESTS_REAL_SIZES_TEST_HPP_
#define NORMFACE_TESTS_REAL_SIZES_TEST_HPP_

// The layers at the sizes of real nets, on a GPU against the host: more rows than a grid has blocks, more numbers in a
// row than a block has threads, counts that no power of two divides. The layers' own tests, with formulas, are small.

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"

#include "caffe/test/test_caffe_main.hpp"

namespace caffe {

/// What a layer reads: numbers between two bounds, or labels; and whether it has a gradient for them.
struct Input {
  vector<int> shape;
  double low, high;
  bool labels, gradient;
};

inline Input Numbers(const vector<int>& shape, double low = -1, double high = 1) {
  return Input{shape, low, high, false, true};
}
inline Input Labels(int count, int classes) { return Input{vector<int>(1, count), 0, double(classes), true, false}; }
inline Input Constants(const vector<int>& shape) { return Input{shape, -1, 1, false, false}; }

template <typename Dtype>
class RealSizesTest : public ::testing::Test {
 protected:
  typedef vector<vector<Dtype> > Arrays;

  static void Fill(const Input& input, unsigned int seed, int count, Dtype* numbers) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(input.low, input.high);
    for (int i = 0; i < count; ++i) {
      const double number = uniform(random);
      numbers[i] = input.labels ? std::floor(number) : number;
    }
  }

  /// Everything that a pass forward and one back leave: tops, gradients of the bottoms, blobs and their gradients.
  static Arrays Pass(Caffe::Brew mode, const LayerParameter& param, const vector<Input>& inputs, int tops,
      bool backward) {
    Caffe::set_mode(mode);
    Caffe::set_random_seed(1701);  // fillers draw on the host in both modes
    vector<shared_ptr<Blob<Dtype> > > blobs(inputs.size() + tops);
    vector<Blob<Dtype>*> bottom, top;
    vector<bool> propagate;
    for (size_t i = 0; i < blobs.size(); ++i) {
      blobs[i].reset(new Blob<Dtype>());
      (i < inputs.size() ? bottom : top).push_back(blobs[i].get());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      bottom[i]->Reshape(inputs[i].shape);
      Fill(inputs[i], i, bottom[i]->count(), bottom[i]->mutable_cpu_data());
      propagate.push_back(inputs[i].gradient);
    }
    shared_ptr<Layer<Dtype> > layer = LayerRegistry<Dtype>::CreateLayer(param);
    layer->SetUp(bottom, top);
    layer->Forward(bottom, top);
    Arrays arrays;
    for (int t = 0; t < tops; ++t) {
      arrays.push_back(vector<Dtype>(top[t]->cpu_data(), top[t]->cpu_data() + top[t]->count()));
      if (layer->loss(t) == 0) {  // of a loss it is the weight
        Fill(Numbers(top[t]->shape()), 100 + t, top[t]->count(), top[t]->mutable_cpu_diff());
      }
    }
    if (!backward) {
      return arrays;
    }
    for (size_t b = 0; b < layer->blobs().size(); ++b) {
      Blob<Dtype>* blob = layer->blobs()[b].get();
      Fill(Numbers(blob->shape()), 200 + b, blob->count(), blob->mutable_cpu_diff());  // gradients add up
    }
    layer->Backward(top, propagate, bottom);
    for (size_t i = 0; i < bottom.size(); ++i) {
      if (propagate[i]) {
        arrays.push_back(vector<Dtype>(bottom[i]->cpu_diff(), bottom[i]->cpu_diff() + bottom[i]->count()));
      }
    }
    for (size_t b = 0; b < layer->blobs().size(); ++b) {
      const Blob<Dtype>& blob = *layer->blobs()[b];
      arrays.push_back(vector<Dtype>(blob.cpu_data(), blob.cpu_data() + blob.count()));
      arrays.push_back(vector<Dtype>(blob.cpu_diff(), blob.cpu_diff() + blob.count()));
    }
    return arrays;
  }

  /// Within 2e-5 (float) or 1e-12 (double) of each array's largest number: both sum up to 70,000 of them, in other
  /// orders.
  static void Check(const string& text, const vector<Input>& inputs, int tops = 1, bool backward = true) {
    SCOPED_TRACE(text);
    LayerParameter param;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &param));
    param.set_name("layer");
    param.set_phase(TRAIN);
    for (size_t i = 0; i < inputs.size(); ++i) {
      param.add_bottom();  // InnerProduct is ours if it has several
    }
    const Arrays host = Pass(Caffe::CPU, param, inputs, tops, backward);
    const Arrays device = Pass(Caffe::GPU, param, inputs, tops, backward);
    const double tolerance = sizeof(Dtype) == 4 ? 2e-5 : 1e-12;
    ASSERT_EQ(host.size(), device.size());
    for (size_t a = 0; a < host.size(); ++a) {
      double largest = 0, apart = 0;
      ASSERT_EQ(host[a].size(), device[a].size());
      for (size_t i = 0; i < host[a].size(); ++i) {
        const double difference = std::abs(double(host[a][i]) - double(device[a][i]));
        largest = std::max(largest, std::abs(double(host[a][i])));
        if (difference > apart || std::isnan(difference)) {
          apart = difference;  // a NaN stays, and is not less than anything
        }
      }
      EXPECT_GT(largest, 0) << "array " << a;
      EXPECT_LE(apart, tolerance * largest) << "array " << a << " of " << host[a].size() << " numbers";
    }
  }
};

}  // namespace caffe

#endif  // NORMFACE_TESTS_REAL_SIZES_TEST_HPP_
