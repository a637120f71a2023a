// Times the face layers on the CPU beside their yardsticks; layer_speed.py builds and runs it.
//
//   layer_speed REPEATS        prints one JSON object: {"name": [milliseconds, ...], ...}
//
// Every repeat goes through all of them in turn, so that a slow moment of the machine meets all alike.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "caffe/caffe.hpp"
#include "caffe/layer_factory.hpp"

using caffe::Blob;
using caffe::Layer;
using caffe::LayerParameter;
using std::string;
using std::vector;

typedef std::map<string, vector<double> > Times;

static double Milliseconds(const std::function<void()>& work) {
  const std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// A layer on random numbers (rows, size, positions), with a random gradient at its top.
struct Bench {
  Bench(const LayerParameter& param, int rows, int size, int positions) : x(rows, size, positions, 1) {
    Fill(x.count(), x.mutable_cpu_data());
    bottom.push_back(&x);
    top.push_back(&y);
    layer = caffe::LayerRegistry<float>::CreateLayer(param);
    layer->SetUp(bottom, top);
    Fill(y.count(), y.mutable_cpu_diff());
    Forward();
    Backward();
  }
  static void Fill(int count, float* numbers) {
    caffe::caffe_rng_gaussian<float>(count, 0, 1, numbers);
  }
  void Forward() { layer->Forward(bottom, top); }
  void Backward() { layer->Backward(top, vector<bool>(1, true), bottom); }

  Blob<float> x, y;
  vector<Blob<float>*> bottom, top;
  caffe::shared_ptr<Layer<float> > layer;
};

/// Squared distances and their gradients as the plainest code has them: sample by class by feature.
static void TripleLoopForward(int M, int N, int K, const float* x, const float* w, float* d) {
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      float sum = 0;
      for (int k = 0; k < K; ++k) {
        const float apart = x[i * K + k] - w[j * K + k];
        sum += apart * apart;
      }
      d[i * N + j] = sum;
    }
  }
}

static void TripleLoopBackward(int M, int N, int K, const float* x, const float* w, const float* g, float* dx,
    float* dw) {
  memset(dx, 0, sizeof(float) * M * K);
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      for (int k = 0; k < K; ++k) {
        dx[i * K + k] += 2 * g[i * N + j] * (x[i * K + k] - w[j * K + k]);
      }
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      for (int k = 0; k < K; ++k) {
        dw[j * K + k] += 2 * g[i * N + j] * (w[j * K + k] - x[i * K + k]);
      }
    }
  }
}

static void Scale(size_t count, const float* x, float* y) {
  for (size_t i = 0; i < count; ++i) {
    y[i] = x[i] * 2;
  }
}

static void Add(size_t count, const float* a, const float* b, float* c) {
  for (size_t i = 0; i < count; ++i) {
    c[i] = a[i] + b[i];
  }
}

static LayerParameter InnerProduct(bool normalize) {
  LayerParameter param;
  param.set_type("InnerProduct");
  param.mutable_inner_product_param()->set_num_output(10572);
  param.mutable_inner_product_param()->set_bias_term(false);
  param.mutable_inner_product_param()->mutable_weight_filler()->set_type("gaussian_unitball");
  param.mutable_inner_product_param()->set_normalize(normalize);
  return param;
}

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? atoi(argv[1]) : 5;
  google::InitGoogleLogging(argv[0]);
  FLAGS_minloglevel = 2;
  caffe::Caffe::set_mode(caffe::Caffe::CPU);
  Times times;
  {
    LayerParameter param;
    param.set_type("InnerDistance");
    param.mutable_inner_distance_param()->set_num_output(10572);
    param.mutable_inner_distance_param()->mutable_weight_filler()->set_type("gaussian_unitball");
    Bench distance(param, 64, 512, 1);
    const float* w = distance.layer->blobs()[0]->cpu_data();
    vector<float> d(64 * 10572), dx(64 * 512), dw(10572 * 512);
    for (int r = 0; r < repeats; ++r) {
      times["distance"].push_back(Milliseconds([&] { distance.Forward(); distance.Backward(); }));
      times["distance_forward"].push_back(Milliseconds([&] { distance.Forward(); }));
      times["loop_forward"].push_back(Milliseconds([&] {
        TripleLoopForward(64, 10572, 512, distance.x.cpu_data(), w, &d[0]);
      }));
      times["loop_backward"].push_back(Milliseconds([&] {
        TripleLoopBackward(64, 10572, 512, distance.x.cpu_data(), w, distance.y.cpu_diff(), &dx[0], &dw[0]);
      }));
    }
    double apart = 0;
    for (size_t i = 0; i < d.size(); ++i) {
      apart = std::max(apart, std::abs(static_cast<double>(d[i]) - distance.y.cpu_data()[i]) / d[i]);
    }
    times["distance_apart"].push_back(apart);
  }
  {
    Bench plain(InnerProduct(false), 256, 512, 1);
    Bench normalized(InnerProduct(true), 256, 512, 1);
    for (int r = 0; r < repeats; ++r) {
      times["plain_forward"].push_back(Milliseconds([&] { plain.Forward(); }));
      times["normalized_forward"].push_back(Milliseconds([&] { normalized.Forward(); }));
      times["plain"].push_back(Milliseconds([&] { plain.Forward(); plain.Backward(); }));
      times["normalized"].push_back(Milliseconds([&] { normalized.Forward(); normalized.Backward(); }));
    }
  }
  const int shapes[2][3] = {{65536, 512, 1}, {1536, 512, 42}};
  for (int s = 0; s < 2; ++s) {
    LayerParameter param;
    param.set_type("Normalize");
    Bench normalize(param, shapes[s][0], shapes[s][1], shapes[s][2]);
    const string kind = s ? "maps" : "rows";
    const size_t count = normalize.x.count();
    vector<float> to(count);
    for (int r = 0; r < repeats; ++r) {
      times[kind + "_scale"].push_back(Milliseconds([&] {
        Scale(count, normalize.x.cpu_data(), &to[0]);
      }));
      times[kind + "_forward"].push_back(Milliseconds([&] { normalize.Forward(); }));
      times[kind + "_add"].push_back(Milliseconds([&] {
        Add(count, normalize.y.cpu_data(), normalize.y.cpu_diff(), &to[0]);
      }));
      times[kind + "_backward"].push_back(Milliseconds([&] { normalize.Backward(); }));
    }
  }
  const char* before = "{";
  for (Times::const_iterator entry = times.begin(); entry != times.end(); ++entry) {
    printf("%s\"%s\": [", before, entry->first.c_str());
    for (size_t i = 0; i < entry->second.size(); ++i) {
      printf("%s%.6g", i ? ", " : "", entry->second[i]);
    }
    printf("]");
    before = ", ";
  }
  printf("}\n");
  return 0;
}
