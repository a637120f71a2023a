// run_layers FILE: for each line of FILE (see layer_line.hpp) run the layer on the CPU and print, a line each, the
// bottoms and the parameters that it starts from, the tops, the gradients of the bottoms that the line names, the
// parameters and their gradients.
#include <cstdio>

#include "layer_line.hpp"

static void Print(const char* what, int count, const double* numbers) {
  std::printf("%s", what);
  for (int i = 0; i < count; ++i) {
    std::printf(" %.17g", numbers[i]);
  }
  std::printf("\n");
}

static void PrintData(const char* what, const lines::Blob& blob) {
  Print(what, blob.count(), blob.DOUBLE_NUMBERS(cpu_data));
}

static void PrintDiff(const char* what, const lines::Blob& blob) {
  Print(what, blob.count(), blob.DOUBLE_NUMBERS(cpu_diff));
}

int main(int argc, char** argv) {
  FLAGS_minloglevel = 2;
  for (const std::string& line : lines::Read(argv[1])) {
    lines::Case one(line);
    std::printf("line %s\n", one.seed.c_str());
    one.SetUp(lines::NewLayer(one.param));
    for (size_t b = 0; b < one.bottom.size(); ++b) {
      PrintData("given", *one.bottom[b]);
    }
    for (size_t b = 0; b < one.layer->blobs().size(); ++b) {
      PrintData("start", *one.layer->blobs()[b]);
    }
    one.Run();
    for (size_t t = 0; t < one.top.size(); ++t) {
      PrintData("top", *one.top[t]);
    }
    for (size_t b = 0; b < one.bottom.size(); ++b) {
      if (one.propagate_down[b]) {
        PrintDiff("bottom", *one.bottom[b]);
      }
    }
    for (size_t b = 0; b < one.layer->blobs().size(); ++b) {
      PrintData("blob", *one.layer->blobs()[b]);
      PrintDiff("gradient", *one.layer->blobs()[b]);
    }
  }
  return 0;
}
