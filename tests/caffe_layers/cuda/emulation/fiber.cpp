#include "fiber.hpp"

#include <stdlib.h>
#include <sys/mman.h>

#include "internal.hpp"

namespace emulated_cuda {
namespace {

const size_t kStack = 128 << 10;
const size_t kGuardPage = 4096;

void __attribute__((noinline)) resume(Fiber* fiber) {
  if (fiber->started) {
    _longjmp(fiber->environment, 1);
  }
  fiber->started = true;
  setcontext(&fiber->start);
  abort();
}

}  // namespace

void __attribute__((noinline)) switch_fiber(Fiber* from, Fiber* to) {
  if (_setjmp(from->environment) == 0) {
    resume(to);
  }
}

Fiber* new_fiber(void (*main)()) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, kGuardPage + kStack, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardPage, PROT_NONE) != 0) {
    fail("no memory for the stacks of threads");
  }
  Fiber* fiber = new Fiber();
  getcontext(&fiber->start);
  fiber->start.uc_stack.ss_sp = static_cast<char*>(memory) + kGuardPage;
  fiber->start.uc_stack.ss_size = kStack;
  fiber->start.uc_link = nullptr;
  makecontext(&fiber->start, main, 0);
  return fiber;
}

}  // namespace emulated_cuda
