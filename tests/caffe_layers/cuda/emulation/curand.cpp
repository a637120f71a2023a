// cuRAND by the standard library's generator: other numbers than a device's, of the same distributions.

#include <curand.h>

#include <random>

#include "internal.hpp"

struct curandGenerator_st {
  std::mt19937_64 engine;
};

namespace emulated_cuda {
namespace {

template <typename Number, typename Distribution>
curandStatus_t generate(const char* what, curandGenerator_t generator, Number* out, size_t count,
    Distribution distribution) {
  out = device_memory(what, out, count * sizeof(Number));
  for (size_t i = 0; i < count; ++i) {
    out[i] = distribution(generator->engine);
  }
  return CURAND_STATUS_SUCCESS;
}

/// In (0, 1], as cuRAND's, not [0, 1).
template <typename Number>
struct Uniform {
  Number operator()(std::mt19937_64& engine) {
    return Number(1) - std::uniform_real_distribution<Number>()(engine);
  }
};

template <typename Number>
curandStatus_t generate_normal(curandGenerator_t generator, Number* out, size_t count, Number mean, Number stddev) {
  if (count % 2 != 0) {
    return CURAND_STATUS_LENGTH_NOT_MULTIPLE;  // cuRAND makes them in pairs
  }
  return generate("curandGenerateNormal's target", generator, out, count,
      std::normal_distribution<Number>(mean, stddev));
}

}  // namespace
}  // namespace emulated_cuda

curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
  *generator = new curandGenerator_st();
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
  delete generator;
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
  generator->engine.seed(seed);
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long offset) {
  generator->engine.discard(offset);
  return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandGenerate(curandGenerator_t generator, unsigned int* out, size_t count) {
  return emulated_cuda::generate("curandGenerate's target", generator, out, count,
      std::uniform_int_distribution<unsigned int>());
}

curandStatus_t curandGenerateUniform(curandGenerator_t generator, float* out, size_t count) {
  return emulated_cuda::generate("curandGenerateUniform's target", generator, out, count,
      emulated_cuda::Uniform<float>());
}

curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double* out, size_t count) {
  return emulated_cuda::generate("curandGenerateUniform's target", generator, out, count,
      emulated_cuda::Uniform<double>());
}

curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* out, size_t count, float mean, float stddev) {
  return emulated_cuda::generate_normal(generator, out, count, mean, stddev);
}

curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double* out, size_t count, double mean,
    double stddev) {
  return emulated_cuda::generate_normal(generator, out, count, mean, stddev);
}
