// Times the face layers on a GPU beside their yardsticks; layer_speed_gpu.py builds and runs it.
//
//   layer_speed_gpu SAMPLES [PART OF A NAME]      prints one JSON object
//
// 0 samples: each pass twice, and no time is taken; for a profiler.
//
// A sample is the time between two events of the device's, with PASSES passes one after another between them, so that a
// layer which never waits for the device has its launches hidden, and one that does has the waiting counted. Labels lie
// on the GPU before every pass, as a data layer leaves them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"

#include "caffe/caffe.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/util/math_functions.hpp"

#include "layer_speed_gpu_cases.hpp"

using caffe::Blob;
using caffe::Layer;
using caffe::LayerParameter;
using std::string;
using std::vector;

static const int PASSES = 10, WARM_UP = 3;

/// Median time of a pass, in microseconds.
static double Microseconds(int samples, const std::function<void()>& pass) {
  if (samples == 0) {
    pass();
    pass();
    return 0;
  }
  cudaEvent_t start, stop;
  CUDA_CHECK(cudaEventCreate(&start));
  CUDA_CHECK(cudaEventCreate(&stop));
  vector<float> times;
  for (int s = -WARM_UP; s < samples; ++s) {
    CUDA_CHECK(cudaDeviceSynchronize());
    CUDA_CHECK(cudaEventRecord(start));
    for (int p = 0; p < PASSES; ++p) {
      pass();
    }
    CUDA_CHECK(cudaEventRecord(stop));
    CUDA_CHECK(cudaEventSynchronize(stop));
    float milliseconds = 0;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
    if (s >= 0) {
      times.push_back(milliseconds * 1000 / PASSES);
    }
  }
  CUDA_CHECK(cudaEventDestroy(start));
  CUDA_CHECK(cudaEventDestroy(stop));
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

/// The device's copy that reads and writes `bytes` bytes together.
static double CopyMicroseconds(int samples, double bytes) {
  const size_t half = std::max<size_t>(bytes / 2, 4);
  void *from = NULL, *to = NULL;
  CUDA_CHECK(cudaMalloc(&from, half));
  CUDA_CHECK(cudaMalloc(&to, half));
  CUDA_CHECK(cudaMemset(from, 0, half));
  const double time = Microseconds(samples, [=] {
    CUDA_CHECK(cudaMemcpyAsync(to, from, half, cudaMemcpyDeviceToDevice));
  });
  CUDA_CHECK(cudaFree(from));
  CUDA_CHECK(cudaFree(to));
  return time;
}

/// A layer on random numbers, with random gradients at its tops.
template <typename Dtype>
class Bench {
 public:
  Bench(const string& text, const vector<Input>& inputs, bool backward) {
    LayerParameter param;
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param)) << text;
    param.set_name(text);
    param.set_phase(caffe::TRAIN);
    for (size_t i = 0; i < inputs.size(); ++i) {
      param.add_bottom();  // InnerProduct is ours if it has several
    }
    blobs_.resize(inputs.size() + 1);
    for (size_t i = 0; i < blobs_.size(); ++i) {
      blobs_[i].reset(new Blob<Dtype>());
      (i < inputs.size() ? bottom_ : top_).push_back(blobs_[i].get());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      bottom_[i]->Reshape(inputs[i].shape);
      Fill(inputs[i], bottom_[i]);
      propagate_.push_back(!inputs[i].labels);
      if (inputs[i].labels) {
        labels_.push_back(bottom_[i]);
      }
    }
    layer_ = caffe::LayerRegistry<Dtype>::CreateLayer(param);
    layer_->SetUp(bottom_, top_);
    Forward();
    if (layer_->loss(0) == 0 && backward) {  // a loss has its weight there
      caffe::caffe_gpu_rng_uniform(top_[0]->count(), Dtype(-1), Dtype(1), top_[0]->mutable_gpu_diff());
    }
  }

  void Forward() {
    for (size_t i = 0; i < labels_.size(); ++i) {
      labels_[i]->mutable_gpu_data();
    }
    layer_->Forward(bottom_, top_);
  }
  void Backward() { layer_->Backward(top_, propagate_, bottom_); }

  /// Of a layer that compares rows with a weight: of a blob, or bottom 1.
  int Classes() const { return layer_->blobs().empty() ? bottom_[1]->shape(0) : layer_->blobs()[0]->shape(0); }

  /// Bytes that have to be read or written, each once.
  double ForwardBytes(const vector<Input>& inputs) const {
    double numbers = top_[0]->count() + ParameterNumbers();
    for (size_t i = 0; i < inputs.size(); ++i) {
      numbers += inputs[i].forward_reads ? bottom_[i]->count() : 0;
    }
    return numbers * sizeof(Dtype);
  }
  /// The parameters are read, and their gradients read and written.
  double BackwardBytes(const vector<Input>& inputs, bool reads_tops) const {
    double numbers = top_[0]->count() * (reads_tops ? 2. : 1.) + 3 * ParameterNumbers();
    for (size_t i = 0; i < inputs.size(); ++i) {
      numbers += (inputs[i].backward_reads ? bottom_[i]->count() : 0) + (propagate_[i] ? bottom_[i]->count() : 0);
    }
    return numbers * sizeof(Dtype);
  }

 private:
  static void Fill(const Input& input, Blob<Dtype>* blob) {
    if (!input.labels) {
      caffe::caffe_gpu_rng_uniform(blob->count(), Dtype(input.low), Dtype(input.high), blob->mutable_gpu_data());
      return;
    }
    Dtype* numbers = blob->mutable_cpu_data();
    for (int i = 0; i < blob->count(); ++i) {
      numbers[i] = caffe::caffe_rng_rand() % static_cast<unsigned int>(input.high);
    }
  }
  double ParameterNumbers() const {
    double numbers = 0;
    for (size_t i = 0; i < layer_->blobs().size(); ++i) {
      numbers += layer_->blobs()[i]->count();
    }
    return numbers;
  }

  vector<caffe::shared_ptr<Blob<Dtype> > > blobs_;
  vector<Blob<Dtype>*> bottom_, top_, labels_;
  vector<bool> propagate_;
  caffe::shared_ptr<Layer<Dtype> > layer_;
};

struct Times {
  double forward, backward;
};

/// cuBLAS's products of rows (M, K) and a weight (N, K): y = x w^T; and w's gradient += g^T x, x's gradient = g w.
template <typename Dtype>
static Times ProductTimes(int samples, int M, int N, int K, int products) {
  Blob<Dtype> x(vector<int>{M, K}), w(vector<int>{N, K}), y(vector<int>{M, N});
  Blob<Dtype>* const blobs[] = {&x, &w, &y};
  for (int b = 0; b < 3; ++b) {
    caffe::caffe_gpu_rng_uniform(blobs[b]->count(), Dtype(-1), Dtype(1), blobs[b]->mutable_gpu_data());
    caffe::caffe_gpu_set(blobs[b]->count(), Dtype(0.5), blobs[b]->mutable_gpu_diff());
  }
  Times times;
  times.forward = Microseconds(samples, [&] {
    caffe::caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasTrans, M, N, K, Dtype(1), x.gpu_data(), w.gpu_data(), Dtype(0),
        y.mutable_gpu_data());
  });
  times.backward = Microseconds(samples, [&] {
    if (products > 1) {
      caffe::caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, N, K, M, Dtype(1), y.gpu_diff(), x.gpu_data(), Dtype(1),
          w.mutable_gpu_diff());
    }
    caffe::caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, M, K, N, Dtype(1), y.gpu_diff(), w.gpu_data(), Dtype(0),
        x.mutable_gpu_diff());
  });
  return times;
}

template <typename Dtype>
static void Run(const Case& one, int samples, const char* before) {
  const bool backward = one.backward_limit > 0;
  Times ours = {0, 0}, other = {0, 0};
  double bytes[2];
  int rows = 0, classes = 0, size = 0;
  {
    Bench<Dtype> bench(one.text, one.bottoms, backward);
    ours.forward = Microseconds(samples, [&] { bench.Forward(); });
    if (backward) {
      ours.backward = Microseconds(samples, [&] { bench.Backward(); });
    }
    bytes[0] = bench.ForwardBytes(one.bottoms);
    bytes[1] = backward ? bench.BackwardBytes(one.bottoms, one.reads_tops) : 0;
    if (one.yardstick == PRODUCT) {
      rows = one.bottoms[0].shape[0];
      size = one.bottoms[0].shape[1];
      classes = bench.Classes();
    }
  }  // its memory goes before the yardstick's comes
  if (one.yardstick == PRODUCT) {
    other = ProductTimes<Dtype>(samples, rows, classes, size, one.products);
  } else if (one.yardstick == COPY) {
    other.forward = CopyMicroseconds(samples, bytes[0]);
    other.backward = backward ? CopyMicroseconds(samples, bytes[1]) : 0;
  } else {
    Bench<Dtype> bench(one.other, one.other_bottoms, backward);
    other.forward = Microseconds(samples, [&] { bench.Forward(); });
    if (backward) {
      other.backward = Microseconds(samples, [&] { bench.Backward(); });
    }
  }
  static const char* const yardsticks[] = {"copy", "product", "layer"};
  printf("%s\n{\"name\": \"%s\", \"type\": \"%s\", \"yardstick\": \"%s\", \"forward_bytes\": %.0f, "
      "\"backward_bytes\": %.0f, \"forward_us\": %.5g, \"forward_yardstick_us\": %.5g, \"backward_us\": %.5g, "
      "\"backward_yardstick_us\": %.5g, \"forward_limit\": %g, \"backward_limit\": %g}", before, one.name.c_str(),
      sizeof(Dtype) == 4 ? "float" : "double", yardsticks[one.yardstick], bytes[0], bytes[1], ours.forward,
      other.forward, ours.backward, other.backward, one.forward_limit, one.backward_limit);
  fflush(stdout);
}

int main(int argc, char** argv) {
  const int samples = argc > 1 ? atoi(argv[1]) : 31;
  const string part = argc > 2 ? argv[2] : "";
  google::InitGoogleLogging(argv[0]);
  FLAGS_minloglevel = 2;
  int devices = 0;
  if (samples < 0) {
    fprintf(stderr, "%s: expected a number of samples, got %s\n", argv[0], argv[1]);
    return 2;
  }
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    fprintf(stderr, "%s: there is no CUDA device here\n", argv[0]);
    return 2;
  }
  caffe::Caffe::SetDevice(0);
  caffe::Caffe::set_mode(caffe::Caffe::GPU);
  caffe::Caffe::set_random_seed(1701);
  cudaDeviceProp device;
  CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  printf("{\"device\": \"%s\", \"l2_bytes\": %d, \"samples\": %d, \"passes_a_sample\": %d, \"cases\": [", device.name,
      device.l2CacheSize, samples, PASSES);
  const vector<Case> cases = Cases();
  const char* before = "";
  for (size_t c = 0; c < cases.size(); ++c) {
    if (cases[c].name.find(part) != string::npos) {
      Run<float>(cases[c], samples, before);
      Run<double>(cases[c], samples, ",");
      before = ",";
    }
  }
  printf("\n]}\n");
  return 0;
}
