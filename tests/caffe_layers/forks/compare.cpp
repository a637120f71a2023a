// compare FILE: for each line of FILE (see ../lines/layer_line.hpp) run the fork's layer and ours on the same random
// numbers, and print the largest differences of the tops, of the bottoms' gradients and of the parameters'. On the CPU, or
// with -DON_A_GPU on a device.
#include <algorithm>
#include <iostream>

#include "../lines/layer_line.hpp"

namespace caffe {
shared_ptr<Layer<double> > ForkLayer(const LayerParameter& param);
}

static double Apart(const lines::Blob& fork, const lines::Blob& ours, bool gradients) {
  CHECK_EQ(fork.count(), ours.count());
  const double* a = gradients ? fork.cpu_diff() : fork.cpu_data();
  const double* b = gradients ? ours.cpu_diff() : ours.cpu_data();
  double most = 0;
  for (int i = 0; i < fork.count(); ++i) {
    const double apart = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    most = apart == apart ? std::max(most, apart) : INFINITY;
  }
  return most;
}

int main(int argc, char** argv) {
  FLAGS_minloglevel = 2;
#ifdef ON_A_GPU
  caffe::Caffe::set_mode(caffe::Caffe::GPU);
#endif
  for (const std::string& line : lines::Read(argv[1])) {
    lines::Case fork(line), ours(line);
    fork.SetUp(caffe::ForkLayer(fork.param));
    fork.Run();
    ours.SetUp(lines::NewLayer(ours.param));
    ours.Run();
    double tops = 0, bottoms = 0, weights = 0;
    for (size_t t = 0; t < ours.top.size(); ++t) {
      tops = std::max(tops, Apart(*fork.top[t], *ours.top[t], false));
    }
    for (size_t b = 0; b < ours.bottom.size(); ++b) {
      if (ours.propagate_down[b]) {
        bottoms = std::max(bottoms, Apart(*fork.bottom[b], *ours.bottom[b], true));
      }
    }
    if (ours.asks_for_parameters) {
      weights = Apart(*fork.layer->blobs()[0], *ours.layer->blobs()[0], true);
    }
    std::cout << tops << " " << bottoms << " " << weights << std::endl;
  }
  return 0;
}
