// compare FILE: for each line of FILE, "SEED|bottom ...|tops|backward ...|layer text", run the fork's layer and ours on
// the same random numbers in double, and print the largest differences of the tops, of the bottoms' gradients and of
// the parameters'. A bottom is KIND:dim,dim with the kinds cos (at most 0.97), normal, positive, pairK (i / K) and labelC
// (numbers below C).
// backward: the numbers of the bottoms whose gradients are compared, and w for the parameters.
#include <cmath>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {
shared_ptr<Layer<double> > ForkLayer(const LayerParameter& param);
}

using caffe::Blob;
using caffe::Layer;
using std::string;
using std::vector;

struct Side {
  caffe::shared_ptr<Layer<double> > layer;
  vector<caffe::shared_ptr<Blob<double> > > owned;
  vector<Blob<double>*> bottom, top;
};

static void Fill(const string& kind, std::mt19937* random, Blob<double>* blob) {
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
    blob->mutable_cpu_data()[i] = value;
  }
}

static double Apart(int count, const double* a, const double* b) {
  double most = 0;
  for (int i = 0; i < count; ++i) {
    const double apart = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    most = apart == apart ? std::max(most, apart) : INFINITY;
  }
  return most;
}

int main(int argc, char** argv) {
  FLAGS_minloglevel = 2;
  std::ifstream lines(argv[1]);
  string line;
  while (std::getline(lines, line)) {
    vector<string> parts;
    std::stringstream whole(line);
    for (string part; std::getline(whole, part, '|');) {
      parts.push_back(part);
    }
    caffe::LayerParameter param;
    CHECK(google::protobuf::TextFormat::ParseFromString(parts[4], &param)) << parts[4];
    param.set_phase(caffe::TRAIN);
    Side sides[2];
    for (int k = 0; k < 2; ++k) {
      std::mt19937 random(std::stoi(parts[0]));
      Side* side = sides + k;
      std::stringstream bottoms(parts[1]);
      for (string bottom; bottoms >> bottom;) {
        vector<int> shape;
        std::stringstream dims(bottom.substr(bottom.find(':') + 1));
        for (string dim; std::getline(dims, dim, ',');) {
          shape.push_back(std::stoi(dim));
        }
        side->owned.push_back(caffe::shared_ptr<Blob<double> >(new Blob<double>(shape)));
        Fill(bottom.substr(0, bottom.find(':')), &random, side->owned.back().get());
        side->bottom.push_back(side->owned.back().get());
      }
      for (int t = 0; t < std::stoi(parts[2]); ++t) {
        side->owned.push_back(caffe::shared_ptr<Blob<double> >(new Blob<double>()));
        side->top.push_back(side->owned.back().get());
      }
      side->layer = k == 0 ? caffe::ForkLayer(param) : caffe::LayerRegistry<double>::CreateLayer(param);
      side->layer->SetUp(side->bottom, side->top);
      for (int b = 0; b < side->layer->blobs().size(); ++b) {
        Blob<double>* blob = side->layer->blobs()[b].get();
        if (blob->count() > 3) {  // smaller ones are settings
          Fill("normal", &random, blob);
        }
        caffe::caffe_set(blob->count(), 0., blob->mutable_cpu_diff());
      }
      const int passes = parts[4].find("NoiseTolerantFR") == string::npos ? 2 : 6;
      for (int pass = 0; pass < passes; ++pass) {
        side->layer->Forward(side->bottom, side->top);
      }
      for (int t = 0; t < side->top.size(); ++t) {
        for (int i = 0; i < side->top[t]->count(); ++i) {
          side->top[t]->mutable_cpu_diff()[i] = side->top[t]->count() == 1 ? 1 : (i * 5 % 7) - 2.5;
        }
      }
      vector<bool> propagate_down(side->bottom.size(), false);
      std::stringstream backward(parts[3]);
      for (string which; backward >> which;) {
        if (which != "w") {
          propagate_down[std::stoi(which)] = true;
        }
      }
      side->layer->Backward(side->top, propagate_down, side->bottom);
    }
    double tops = 0, bottoms = 0, weights = 0;
    for (int t = 0; t < sides[0].top.size(); ++t) {
      CHECK_EQ(sides[0].top[t]->count(), sides[1].top[t]->count());
      tops = std::max(tops, Apart(sides[0].top[t]->count(), sides[0].top[t]->cpu_data(), sides[1].top[t]->cpu_data()));
    }
    std::stringstream backward(parts[3]);
    for (string which; backward >> which;) {
      if (which != "w") {
        const Blob<double>& fork = *sides[0].bottom[std::stoi(which)];
        const Blob<double>& ours = *sides[1].bottom[std::stoi(which)];
        bottoms = std::max(bottoms, Apart(fork.count(), fork.cpu_diff(), ours.cpu_diff()));
      } else {
        const Blob<double>& fork = *sides[0].layer->blobs()[0];
        const Blob<double>& ours = *sides[1].layer->blobs()[0];
        weights = std::max(weights, Apart(fork.count(), fork.cpu_diff(), ours.cpu_diff()));
      }
    }
    std::cout << tops << " " << bottoms << " " << weights << std::endl;
  }
  return 0;
}
