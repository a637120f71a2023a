#ifndef EMULATED_CUDA_LAUNCH_HPP_
#define EMULATED_CUDA_LAUNCH_HPP_

// What cuda_to_cpp.py makes of kernel<<<grid, threads>>>(arguments) and of __shared__ variables.

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <typeinfo>

#include "emulated_cuda/types.hpp"

namespace emulated_cuda {

struct Configuration {
  Configuration(dim3 grid, dim3 block, std::size_t shared = 0, cudaStream_t = 0)
      : grid(grid), block(block), shared(shared) {}
  dim3 grid, block;
  std::size_t shared;
};

struct Place {
  const char* file;
  int line;
};

/// A launch that is about to run, for messages: "Kernel<Dtype>" and the type of the function.
struct Launch {
  const char* kernel;
  const std::type_info* type;
  Configuration configuration;
  Place place;
};

/// False, with the error for cudaGetLastError, for what no device would run.
bool can_run(const Launch& launch);
/// Where the memory is that `pointer` stands for; stops the program unless it is NULL or points into device memory.
void* check_argument(const Launch& launch, int number, const void* pointer);
/// Calls thread(held) for every thread of every block.
void run(const Launch& launch, void (*thread)(const void* held), const void* held);

/// What a kernel gets for an argument: a pointer to where device memory really is, anything else as it is.
template <typename Argument>
Argument on_device(const Launch& launch, int* number, const Argument& argument) {
  ++*number;
  if constexpr (std::is_pointer_v<Argument> && !std::is_function_v<std::remove_pointer_t<Argument>>) {
    return static_cast<Argument>(
        check_argument(launch, *number, const_cast<const void*>(static_cast<const volatile void*>(argument))));
  } else {
    return argument;
  }
}

template <typename Function, typename... Arguments>
void check_and_run(const Launch& launch, const Function& function, const Arguments&... arguments) {
  if (!can_run(launch)) {
    return;
  }
  int number = 0;
  const std::tuple<Function, Arguments...> held{function, on_device(launch, &number, arguments)...};
  run(launch, [](const void* held) {
    std::apply([](const Function& function, const Arguments&... arguments) { function(arguments...); },
        *static_cast<const std::tuple<Function, Arguments...>*>(held));
  }, &held);
}

/// The launch of a kernel whose type is known: the arguments are converted to its parameters, as in any call.
template <typename... Parameters>
class Launcher {
 public:
  Launcher(const Launch& launch, void (*kernel)(Parameters...)) : launch_(launch), kernel_(kernel) {}
  void operator()(Parameters... arguments) const { check_and_run(launch_, kernel_, arguments...); }

 private:
  Launch launch_;
  void (*kernel_)(Parameters...);
};

template <typename... Parameters>
Launcher<Parameters...> launcher(const char* name, void (*kernel)(Parameters...), const Configuration& configuration,
    const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return Launcher<Parameters...>(Launch{name, &typeid(void(Parameters...)), configuration, {file, line}}, kernel);
}

/// The launch of a template whose arguments follow from the call's.
template <typename Call>
class DeducingLauncher {
 public:
  DeducingLauncher(const Launch& launch, const Call& call) : launch_(launch), call_(call) {}
  template <typename... Arguments>
  void operator()(Arguments... arguments) const {
    Launch launch = launch_;
    launch.type = &typeid(void(Arguments...));
    check_and_run(launch, call_, arguments...);
  }

 private:
  Launch launch_;
  Call call_;
};

template <typename Call>
DeducingLauncher<Call> deducing_launcher(const char* name, const Call& call, const Configuration& configuration,
    const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return DeducingLauncher<Call>(Launch{name, nullptr, configuration, {file, line}}, call);
}

/// Of a __shared__ variable: the first thread of a block that comes by makes it NaN.
class Tag {
 public:
  void enter(volatile void* variable, std::size_t size);

 private:
  unsigned long block_ = 0;
};

/// "forward", "reverse" or a number: see order.hpp. Until it is called, EMULATED_CUDA_ORDER counts.
void set_order(const char* order);

/// The memory of extern __shared__ variables.
void* dynamic_shared();

}  // namespace emulated_cuda

#endif  // EMULATED_CUDA_LAUNCH_HPP_
