// run_layers FILE: for each line of FILE, "SEED|bottom ...|tops|backward ...|layer text" (see ../forks/compare.cpp), run
// the layer in double on the CPU and print, a line each, the tops, the gradients of the bottoms named in `backward`, the
// parameters and their gradients. Compiled with BVLC Caffe's headers and, with -DTWO_TYPES, with NVCaffe's.
#include <cmath>
#include <cstdio>
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

using std::string;
using std::vector;

#ifdef TWO_TYPES
typedef caffe::Blob Blob;
typedef caffe::LayerBase Layer;
#define DOUBLE_NUMBERS(call) call<double>()
static Blob* NewBlob(const vector<int>& shape) { return new caffe::TBlob<double>(shape); }
static boost::shared_ptr<Layer> NewLayer(caffe::LayerParameter param) {
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
static Blob* NewBlob(const vector<int>& shape) { return new Blob(shape); }
static boost::shared_ptr<Layer> NewLayer(const caffe::LayerParameter& param) {
  return caffe::LayerRegistry<double>::CreateLayer(param);
}
#endif

static void Fill(const string& kind, std::mt19937* random, Blob* blob) {
  std::uniform_real_distribution<double> cosine(-0.97, 0.97);
  std::normal_distribution<double> normal;
  for (int i = 0; i < blob->count(); ++i) {
    double value = normal(*random);
    if (kind == "cos") {
      value = cosine(*random);
    } else if (kind == "positive") {
      value = std::abs(value);
    } else if (kind.substr(0, 5) == "label") {
      value = (*random)() % std::stoi(kind.substr(5));
    } else if (kind.substr(0, 4) == "pair") {
      value = i / std::stoi(kind.substr(4));
    }
    blob->DOUBLE_NUMBERS(mutable_cpu_data)[i] = value;
  }
}

static void Print(const char* what, int count, const double* numbers) {
  std::printf("%s", what);
  for (int i = 0; i < count; ++i) {
    std::printf(" %.17g", numbers[i]);
  }
  std::printf("\n");
}

static void Run(const vector<string>& parts) {
  caffe::LayerParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString(parts[4], &param)) << parts[4];
  param.set_phase(caffe::TRAIN);
  std::mt19937 random(std::stoi(parts[0]));
  vector<boost::shared_ptr<Blob> > owned;
  vector<Blob*> bottom, top;
  std::stringstream bottoms(parts[1]);
  for (string text; bottoms >> text;) {
    vector<int> shape;
    std::stringstream dims(text.substr(text.find(':') + 1));
    for (string dim; std::getline(dims, dim, ',');) {
      shape.push_back(std::stoi(dim));
    }
    owned.push_back(boost::shared_ptr<Blob>(NewBlob(shape)));
    Fill(text.substr(0, text.find(':')), &random, owned.back().get());
    bottom.push_back(owned.back().get());
    param.add_bottom("bottom");  // whose number chooses the InnerProduct
  }
  for (int t = 0; t < std::stoi(parts[2]); ++t) {
    owned.push_back(boost::shared_ptr<Blob>(NewBlob(vector<int>())));
    top.push_back(owned.back().get());
  }
  boost::shared_ptr<Layer> layer = NewLayer(param);
  layer->SetUp(bottom, top);
  for (size_t b = 0; b < layer->blobs().size(); ++b) {
    Blob* blob = layer->blobs()[b].get();
    if (blob->count() > 3) {  // smaller ones are settings
      Fill("normal", &random, blob);
    }
    caffe::caffe_set(blob->count(), 0., blob->DOUBLE_NUMBERS(mutable_cpu_diff));
  }
  const int passes = parts[4].find("NoiseTolerantFR") == string::npos ? 2 : 6;
  for (int pass = 0; pass < passes; ++pass) {
    layer->Forward(bottom, top);
  }
  for (size_t t = 0; t < top.size(); ++t) {
    Print("top", top[t]->count(), top[t]->DOUBLE_NUMBERS(cpu_data));
    for (int i = 0; i < top[t]->count(); ++i) {
      top[t]->DOUBLE_NUMBERS(mutable_cpu_diff)[i] = top[t]->count() == 1 ? 1 : (i * 5 % 7) - 2.5;
    }
  }
  vector<bool> propagate_down(bottom.size(), false);
  std::stringstream backward(parts[3]);
  for (string which; backward >> which;) {
    if (which != "w") {
      propagate_down[std::stoi(which)] = true;
    }
  }
  if (!parts[3].empty()) {
    layer->Backward(top, propagate_down, bottom);
  }
  for (size_t b = 0; b < bottom.size(); ++b) {
    if (propagate_down[b]) {
      Print("bottom", bottom[b]->count(), bottom[b]->DOUBLE_NUMBERS(cpu_diff));
    }
  }
  for (size_t b = 0; b < layer->blobs().size(); ++b) {
    Blob* blob = layer->blobs()[b].get();
    Print("blob", blob->count(), blob->DOUBLE_NUMBERS(cpu_data));
    Print("gradient", blob->count(), blob->DOUBLE_NUMBERS(cpu_diff));
  }
}

int main(int argc, char** argv) {
  FLAGS_minloglevel = 2;
  std::ifstream lines(argv[1]);
  for (string line; std::getline(lines, line);) {
    vector<string> parts;
    std::stringstream whole(line);
    for (string part; std::getline(whole, part, '|');) {
      parts.push_back(part);
    }
    std::printf("line %s\n", parts[0].c_str());
    Run(parts);
  }
  return 0;
}
