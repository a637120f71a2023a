// What NVCaffe's sources, of 0.16 or 0.17, need of common.cpp, gpu_memory.cpp and CUDA to run in CPU mode on a machine
// without a GPU, for which NVCaffe has no build.
#include <boost/random/mersenne_twister.hpp>

#include <mutex>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/layers/softmax_layer.hpp"
#include "caffe/util/gpu_memory.hpp"
#include "caffe/util/rng.hpp"

#define STOP(name) LOG(FATAL) << name << ": there is no GPU here"

extern "C" cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

namespace cub {
class CachingDeviceAllocator {};
}  // namespace cub

namespace caffe {

Caffe::Brew Caffe::mode_ = Caffe::CPU;
int Caffe::root_device_ = -1;
int Caffe::thread_count_ = 0;
int Caffe::restored_iter_ = -1;
std::atomic<uint64_t> Caffe::root_seed_(Caffe::SEED_NOT_SET);
std::atomic<size_t> Caffe::epoch_count_(static_cast<size_t>(-1));
std::mutex Caffe::caffe_mutex_;
std::mutex Caffe::pstream_mutex_;
std::mutex Caffe::cublas_mutex_;
std::mutex Caffe::cudnn_mutex_;
std::mutex Caffe::seed_mutex_;
GPUMemory::Manager GPUMemory::mgr_;

Caffe& Caffe::Get() {
  static Caffe caffe;
  return caffe;
}

#ifdef CAFFE_MACROS_HPP_  // 0.17
size_t Caffe::solver_count_ = 1;
std::vector<int> Caffe::gpus_;
std::mutex Caffe::cd_mutex_;
std::mutex GPUMemory::dev_info_mutex_;

Caffe::Caffe() : curand_generator_(NULL), is_root_solver_(true), device_(0), gpu_memory_scope_(Caffe::gpus_) {}
bool GPUMemory::Manager::try_allocate(void**, size_t, int, const shared_ptr<CudaStream>&) {
  STOP("GPUMemory");
  return false;
}
#else
int Caffe::solver_count_ = 1;
shared_mutex GPUMemory::mutex_;

Caffe::Caffe() : curand_generator_(NULL), root_solver_(true), device_(0) {}
bool GPUMemory::Manager::try_allocate(void**, size_t, int, int) {
  STOP("GPUMemory");
  return false;
}
#endif

Caffe::~Caffe() {}
void Caffe::init() {}
void Caffe::set_random_seed_int(uint64_t seed) { random_generator_.reset(new RNG(seed)); }

CudaStream::~CudaStream() {}
CuBLASHandle::~CuBLASHandle() {}
shared_ptr<CudaStream> Caffe::pstream(int) {
  STOP("a stream");
  return shared_ptr<CudaStream>();
}

GPUMemory::Manager::Manager() : debug_(false), initialized_(false) {}
GPUMemory::Manager::~Manager() {}
void GPUMemory::Manager::init(const std::vector<int>&, bool) {}
void GPUMemory::Manager::deallocate(void*, int) { STOP("GPUMemory"); }

class Caffe::RNG::Generator {
 public:
  explicit Generator(uint64_t seed) : generator(static_cast<unsigned int>(seed)) {}
  rng_t generator;
};
Caffe::RNG::RNG() : generator_(new Generator(1)) {}
Caffe::RNG::RNG(uint64_t seed) : generator_(new Generator(seed)) {}
void* Caffe::RNG::generator() { return &generator_->generator; }

const double TypedConsts<double>::zero = 0;
const double TypedConsts<double>::one = 1;
const float TypedConsts<float>::zero = 0;
const float TypedConsts<float>::one = 1;
const float16 TypedConsts<float16>::zero = 0.0f;
const float16 TypedConsts<float16>::one = 1.0f;
const int TypedConsts<int>::zero = 0;
const int TypedConsts<int>::one = 1;

REGISTER_LAYER_CLASS(Softmax);  // in NVCaffe in layer_factory.cpp, which includes all of it

}  // namespace caffe
