#ifndef EMULATED_CUDA_FIBER_HPP_
#define EMULATED_CUDA_FIBER_HPP_

#include <setjmp.h>
#include <ucontext.h>

namespace emulated_cuda {

/// A stack, and where on it its program has stopped. Made once and used again: a context's own switch asks the operating
/// system each time, a jump does not.
struct Fiber {
  jmp_buf environment;
  ucontext_t start;
  bool started;
};

/// One that will begin with `main`, which never returns.
Fiber* new_fiber(void (*main)());

/// Goes on with `to`; returns when something switches to `from`.
void switch_fiber(Fiber* from, Fiber* to);

}  // namespace emulated_cuda

#endif  // EMULATED_CUDA_FIBER_HPP_
