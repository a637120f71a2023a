// A layer on random numbers in double, as a line says: "SEED|bottom ...|tops|backward ...|layer text".
//
// A bottom is KIND:dim,dim with the kinds normal, positive, cos (at most 0.97), near (cosines of 0.75 to 0.97), pairK
// (i / K) and labelC (numbers below C). backward: the numbers of the bottoms whose gradients are asked for, and w for
// the parameters; empty where no backward pass is. Read with BVLC Caffe's headers and, with -DTWO_TYPES, with NVCaffe's.
#ifndef LINES_LAYER_LINE_HPP_
#define LINES_LAYER_LINE_HPP_

#include <cmath>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <boost/shared_ptr.hpp>

#include "google/protobuf/text_format.h"

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/util/math_functions.hpp"

namespace lines {

using std::string;
using std::vector;

#ifdef TWO_TYPES
typedef caffe::Blob Blob;
typedef caffe::LayerBase Layer;
#define DOUBLE_NUMBERS(call) call<double>()
inline Blob* NewBlob(const vector<int>& shape) { return new caffe::TBlob<double>(shape); }
inline boost::shared_ptr<Layer> NewLayer(caffe::LayerParameter param) {
  if (!param.has_forward_type()) {
    param.set_forward_type(caffe::DOUBLE);
    param.set_backward_type(caffe::DOUBLE);
  }
  return caffe::LayerRegistry::CreateLayer(param, 0);
}
#else
typedef caffe::Blob<double> Blob;
typedef caffe::Layer<double> Layer;
#define DOUBLE_NUMBERS(call) call()
inline Blob* NewBlob(const vector<int>& shape) { return new Blob(shape); }
inline boost::shared_ptr<Layer> NewLayer(const caffe::LayerParameter& param) {
  return caffe::LayerRegistry<double>::CreateLayer(param);
}
#endif

inline vector<string> Split(const string& text, char separator) {
  vector<string> parts;
  std::stringstream whole(text);
  for (string part; std::getline(whole, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

inline void Fill(const string& kind, std::mt19937* random, Blob* blob) {
  std::uniform_real_distribution<double> cosine(-0.97, 0.97), near(0.75, 0.97);
  std::normal_distribution<double> normal;
  double* numbers = blob->DOUBLE_NUMBERS(mutable_cpu_data);
  for (int i = 0; i < blob->count(); ++i) {
    double value = normal(*random);
    if (kind == "cos") {
      value = cosine(*random);
    } else if (kind == "near") {
      value = near(*random);
    } else if (kind == "positive") {
      value = std::abs(value);
    } else if (kind.substr(0, 5) == "label") {
      value = (*random)() % std::stoi(kind.substr(5));
    } else if (kind.substr(0, 4) == "pair") {
      value = i / std::stoi(kind.substr(4));
    }
    numbers[i] = value;
  }
}

// What a line asks for, with its bottoms filled.
struct Case {
  explicit Case(const string& line) {
    const vector<string> parts = Split(line, '|');
    CHECK_EQ(parts.size(), 5u) << line;
    seed = parts[0];
    random.seed(std::stoi(seed));
    CHECK(google::protobuf::TextFormat::ParseFromString(parts[4], &param)) << parts[4];
    param.set_phase(caffe::TRAIN);
    for (const string& text : Split(parts[1], ' ')) {
      const vector<string> kind_and_shape = Split(text, ':');
      vector<int> shape;
      for (const string& dim : Split(kind_and_shape[1], ',')) {
        shape.push_back(std::stoi(dim));
      }
      bottom.push_back(Keep(shape));
      Fill(kind_and_shape[0], &random, bottom.back());
      param.add_bottom("bottom");  // whose number chooses the InnerProduct
    }
    for (int t = 0; t < std::stoi(parts[2]); ++t) {
      top.push_back(Keep(vector<int>()));
    }
    has_backward = !parts[3].empty();
    asks_for_parameters = false;
    propagate_down.resize(bottom.size(), false);
    for (const string& which : Split(parts[3], ' ')) {
      if (which == "w") {
        asks_for_parameters = true;
      } else {
        propagate_down[std::stoi(which)] = true;
      }
    }
  }

  // Takes the layer, and fills its parameters.
  void SetUp(const boost::shared_ptr<Layer>& made) {
    layer = made;
    layer->SetUp(bottom, top);
    for (size_t b = 0; b < layer->blobs().size(); ++b) {
      Blob* blob = layer->blobs()[b].get();
      if (blob->count() > 3) {  // smaller ones are settings
        Fill("normal", &random, blob);
      }
      caffe::caffe_set(blob->count(), 0., blob->DOUBLE_NUMBERS(mutable_cpu_diff));
    }
  }

  // Some passes, for what a layer keeps from one to the next, then one back from numbers in -2.5 to 3.5; 1 of a loss.
  void Run() {
    const int passes = param.type() == "NoiseTolerantFR" ? 6 : 2;
    for (int pass = 0; pass < passes; ++pass) {
      layer->Forward(bottom, top);
    }
    for (size_t t = 0; t < top.size(); ++t) {
      double* diff = top[t]->DOUBLE_NUMBERS(mutable_cpu_diff);
      for (int i = 0; i < top[t]->count(); ++i) {
        diff[i] = top[t]->count() == 1 ? 1 : (i * 5 % 7) - 2.5;
      }
    }
    if (has_backward) {
      layer->Backward(top, propagate_down, bottom);
    }
  }

  string seed;
  std::mt19937 random;
  caffe::LayerParameter param;
  vector<Blob*> bottom, top;
  bool has_backward, asks_for_parameters;
  vector<bool> propagate_down;
  boost::shared_ptr<Layer> layer;

 private:
  Blob* Keep(const vector<int>& shape) {
    owned_.push_back(boost::shared_ptr<Blob>(NewBlob(shape)));
    return owned_.back().get();
  }

  vector<boost::shared_ptr<Blob> > owned_;
};

inline vector<string> Read(const char* file) {
  vector<string> all;
  std::ifstream opened(file);
  for (string line; std::getline(opened, line);) {
    all.push_back(line);
  }
  return all;
}

}  // namespace lines

#endif  // LINES_LAYER_LINE_HPP_
