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

bool is_device(const void* pointer);
/// Where the memory is that `pointer`, a device's, stands for; stops the program unless all of it lies in one allocation.
/// `what` says whose it is.
void* device_memory(const char* what, const void* pointer, std::size_t size);
template <typename Number>
Number* device_memory(const char* what, Number* pointer, std::size_t size) {
  return static_cast<Number*>(device_memory(what, static_cast<const void*>(pointer), size));
}
/// Stops the program if `pointer` is device memory.
void check_host(const char* what, const void* pointer);
/// Stops the program if something wrote beside an allocation.
void check_guards(const char* what);

/// Fills with what reads as a NaN in float and double, and as a number far out of any range in int.
void poison(void* start, std::size_t size);

}  // namespace emulated_cuda

#endif  // EMULATED_CUDA_INTERNAL_HPP_
