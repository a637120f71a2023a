#ifndef EMULATED_CUDA_INTERNAL_HPP_
#define EMULATED_CUDA_INTERNAL_HPP_

// What the emulation's own sources share.

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

namespace emulated_cuda {

/// Prints "emulated CUDA: ..." and where a kernel is, if one runs, and aborts.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// " in kernel ..., block ..., thread ..." while a kernel runs, or nothing.
std::string where();

/// What cudaGetLastError will say, unless it has something to say already.
cudaError_t set_error(cudaError_t error);

/// Device memory can be read and written while one of these lives; at other times touching it stops the program.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
};

bool is_device(const void* pointer);
/// Stops the program unless all of it lies in one allocation; `what` says whose.
void check_device(const char* what, const void* pointer, std::size_t size);
/// Stops the program if `pointer` is device memory.
void check_host(const char* what, const void* pointer);
/// Stops the program if something wrote beside an allocation; with device access only.
void check_guards(const char* what);

/// Fills with what reads as a NaN in float and double, and as a number far out of any range in int.
void poison(void* start, std::size_t size);

}  // namespace emulated_cuda

#endif  // EMULATED_CUDA_INTERNAL_HPP_
