// The threads of a block as fibers on one core: a thread runs until it waits for others; order.hpp says who goes on.

#include <cxxabi.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "emulated_cuda/device.hpp"
#include "fiber.hpp"
#include "internal.hpp"
#include "order.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulated_cuda {
namespace {

const size_t kMaxShared = 48 << 10;

enum State { READY, AT_BARRIER, AT_COLLECTIVE, RETURNED };

struct Thread {
  State state;
  Fiber* fiber;  // none until the thread starts
  uint3 index;
  // What it waits in.
  const char* name;
  Place place;
  int kind;
  unsigned mask;
  uint64_t value;  // what it brings, then what it gets
  int operand;
  int width;
};

// One block runs at a time, on one core.
const Launch* launch;
void (*thread_function)(const void*);
const void* held_arguments;
unsigned long block_number;
Thread threads[kMaxThreads];
int thread_count, returned, at_barrier, current;
unsigned living[kMaxThreads / kWarp], at_collective[kMaxThreads / kWarp];  // lanes, by warp
ThreadSet ready;
Fiber scheduler;
std::vector<Fiber*> free_fibers;
alignas(16) char shared_memory[kMaxShared + 256];

bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }

bool same_place(const Thread& a, const Thread& b) {
  return a.place.line == b.place.line && a.kind == b.kind && same(a.name, b.name) && same(a.place.file, b.place.file);
}

/// "threads 0-15 at __syncthreads (file:12), threads 16-31 have returned"
std::string standing() {
  std::string text;
  for (int i = 0, end; i < thread_count; i = end) {
    const Thread& thread = threads[i];
    end = i + 1;
    while (end < thread_count && threads[end].state == thread.state &&
        (thread.state == RETURNED || (same_place(threads[end], thread) && threads[end].mask == thread.mask))) {
      ++end;
    }
    text += text.empty() ? "threads " : ", threads ";
    text += std::to_string(i) + (end > i + 1 ? "-" + std::to_string(end - 1) : "");
    if (thread.state == RETURNED) {
      text += " have returned";
    } else if (thread.state == READY) {
      text += " can go on";
    } else {
      text += std::string(" at ") + thread.name + " (" + thread.place.file + ":" + std::to_string(thread.place.line);
      if (thread.state == AT_COLLECTIVE) {
        char mask[32];
        snprintf(mask, sizeof(mask), ", mask %08x", thread.mask);
        text += mask;
      }
      text += ")";
    }
  }
  return text;
}

/// Makes a thread that can go on the current one; false if all have returned.
bool next_thread() {
  const int i = Order::get().choose(ready, thread_count);
  if (i < 0) {
    if (returned < thread_count) {
      current = -1;
      fail("the threads of a block have diverged and wait for ever: %s", standing().c_str());
    }
    return false;
  }
  current = i;
  threadIdx = threads[i].index;
  return true;
}

void fiber_main();

Fiber* take_fiber() {
  if (free_fibers.empty()) {
    return new_fiber(fiber_main);
  }
  Fiber* fiber = free_fibers.back();
  free_fibers.pop_back();
  return fiber;
}

Fiber* fiber_of_current() {
  Thread& thread = threads[current];
  if (!thread.fiber) {
    thread.fiber = take_fiber();
  }
  return thread.fiber;
}

/// Lets others run until the current thread is ready and chosen.
void wait() {
  Fiber* own = threads[current].fiber;
  next_thread();  // there is this one, or it stops the program
  Fiber* chosen = fiber_of_current();
  if (chosen != own) {
    switch_fiber(own, chosen);
  }
}

void make_ready(int i) {
  threads[i].state = READY;
  ready.add(i);
}

int source_lane(const Thread& thread, int lane) {
  const int start = lane & ~(thread.width - 1), end = start + thread.width;
  switch (thread.kind) {
    case SHUFFLE:
      return start + (thread.operand & (thread.width - 1));
    case SHUFFLE_UP:
      return static_cast<unsigned>(thread.operand) <= static_cast<unsigned>(lane - start) ? lane - thread.operand : lane;
    case SHUFFLE_DOWN:
      return static_cast<unsigned>(thread.operand) < static_cast<unsigned>(end - lane) ? lane + thread.operand : lane;
    default:
      return (lane ^ thread.operand) < end ? lane ^ thread.operand : lane;
  }
}

/// Carries a warp's operation out if every lane has come to it.
void try_collective(int warp, const Thread& first) {
  const unsigned mask = first.mask, members = mask & living[warp];
  if (members & ~at_collective[warp]) {
    return;
  }
  uint64_t values[kWarp] = {};
  unsigned ballot = 0;
  Thread* lanes = threads + warp * kWarp;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (members >> lane & 1) {
      if (lanes[lane].mask != mask || !same_place(lanes[lane], first)) {
        return;
      }
      values[lane] = lanes[lane].value;
      ballot |= (lanes[lane].value != 0) << lane;
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(members >> lane & 1)) {
      continue;
    }
    Thread& thread = lanes[lane];
    switch (thread.kind) {
      case WARP_SYNC:
        break;
      case BALLOT:
        thread.value = ballot;
        break;
      case ANY:
        thread.value = ballot != 0;
        break;
      case ALL:
        thread.value = ballot == members;
        break;
      default:
        const int source = source_lane(thread, lane);
        if (!(members >> source & 1)) {
          fail("lane %d of warp %d reads lane %d in %s (%s:%d), which is not in the mask %08x, not in the block or has "
              "returned", lane, warp, source, thread.name, thread.place.file, thread.place.line, mask);
        }
        thread.value = values[source];
    }
    at_collective[warp] &= ~(1u << lane);
    make_ready(warp * kWarp + lane);
  }
}

void return_from_kernel() {
  Thread& thread = threads[current];
  const int warp = current / kWarp;
  thread.state = RETURNED;
  ready.remove(current);
  living[warp] &= ~(1u << current % kWarp);
  ++returned;
  // Others of the warp may have waited for this one only.
  for (int lane = 0; at_collective[warp] >> lane != 0; ++lane) {
    if (at_collective[warp] >> lane & 1) {
      try_collective(warp, threads[warp * kWarp + lane]);
    }
  }
}

void fiber_main() {
  for (;;) {
    Fiber* own = threads[current].fiber;
    thread_function(held_arguments);
    return_from_kernel();
    if (!next_thread()) {
      free_fibers.push_back(own);
      switch_fiber(own, &scheduler);
    } else if (!threads[current].fiber) {
      threads[current].fiber = own;  // a new thread takes the stack over
    } else {
      free_fibers.push_back(own);
      switch_fiber(own, threads[current].fiber);
    }
  }
}

void run_block() {
  ++block_number;
  returned = at_barrier = 0;
  for (int warp = 0; warp < kMaxThreads / kWarp; ++warp) {
    const int lanes = std::min(kWarp, std::max(0, thread_count - warp * kWarp));
    living[warp] = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    at_collective[warp] = 0;
  }
  ready.fill(thread_count);
  uint3 index = {0, 0, 0};
  for (int i = 0; i < thread_count; ++i) {
    threads[i].state = READY;
    threads[i].fiber = nullptr;
    threads[i].index = index;
    if (++index.x == blockDim.x) {
      index.x = 0;
      if (++index.y == blockDim.y) {
        index.y = 0;
        ++index.z;
      }
    }
  }
  const size_t shared = launch->configuration.shared;
  poison(shared_memory, (shared + 3) / 4 * 4 + 128);
  scheduler.started = true;  // the host's own stack
  next_thread();
  switch_fiber(&scheduler, fiber_of_current());
  current = -1;
  char untouched[128];
  poison(untouched, sizeof(untouched));
  if (memcmp(shared_memory + (shared + 3) / 4 * 4, untouched, sizeof(untouched)) != 0) {
    fail("something was written behind the %zu bytes of dynamic shared memory", shared);
  }
}

std::string describe(const Launch& launch) {
  std::string type;
  if (launch.type) {
    int status;
    char* name = abi::__cxa_demangle(launch.type->name(), nullptr, nullptr, &status);
    type = name ? name : "";
    free(name);
    type.erase(0, type.find('('));
  }
  return std::string(launch.kernel) + type + " (launched at " + launch.place.file + ":" +
      std::to_string(launch.place.line) + ")";
}

}  // namespace

std::string where() {
  if (!launch) {
    return "";
  }
  char text[160];
  snprintf(text, sizeof(text), ", grid (%u, %u, %u), block (%u, %u, %u)", gridDim.x, gridDim.y, gridDim.z, blockIdx.x,
      blockIdx.y, blockIdx.z);
  std::string all = "\n  in kernel " + describe(*launch) + text;
  if (current >= 0) {
    snprintf(text, sizeof(text), ", thread (%u, %u, %u) of (%u, %u, %u)", threadIdx.x, threadIdx.y, threadIdx.z,
        blockDim.x, blockDim.y, blockDim.z);
    all += text;
  }
  return all;
}

bool can_run(const Launch& launch) {
  const dim3 &grid = launch.configuration.grid, &block = launch.configuration.block;
  if (emulated_cuda::launch) {
    fail("a kernel launches %s", launch.kernel);
  }
  const bool grid_fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 2147483647u && grid.y <= 65535 &&
      grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= 1024 && block.y <= 1024 &&
      block.z <= 64 && block.x * block.y * block.z <= kMaxThreads;
  if (!grid_fits || !block_fits) {
    set_error(cudaErrorInvalidConfiguration);
    return false;
  }
  if (launch.configuration.shared > kMaxShared) {
    set_error(cudaErrorInvalidValue);
    return false;
  }
  return true;
}

void run(const Launch& launch, void (*thread)(const void*), const void* held) {
  emulated_cuda::launch = &launch;
  thread_function = thread;
  held_arguments = held;
  gridDim = launch.configuration.grid;
  blockDim = launch.configuration.block;
  thread_count = blockDim.x * blockDim.y * blockDim.z;
  const unsigned count = gridDim.x * gridDim.y * gridDim.z;
  for (const unsigned block : Order::get().permutation(count)) {
    blockIdx.x = block % gridDim.x;
    blockIdx.y = block / gridDim.x % gridDim.y;
    blockIdx.z = block / gridDim.x / gridDim.y;
    run_block();
  }
  current = -1;
  check_guards("a thread");
  emulated_cuda::launch = nullptr;
}

void Tag::enter(volatile void* variable, size_t size) {
  if (block_ != block_number) {
    block_ = block_number;
    poison(const_cast<void*>(variable), size);
  }
}

void set_order(const char* order) { Order::get().set(order); }

void* dynamic_shared() { return shared_memory; }

int barrier(Barrier kind, const char* name, int predicate, Place place) {
  const int self = current;
  Thread& thread = threads[self];
  thread.state = AT_BARRIER;
  thread.name = name;
  thread.place = place;
  thread.kind = kind;
  thread.mask = 0;
  thread.value = predicate != 0;
  ready.remove(self);
  if (++at_barrier == thread_count) {
    at_barrier = 0;
    int count = 0;
    for (int i = 0; i < thread_count; ++i) {
      if (!same_place(threads[i], thread)) {
        fail("threads of a block have diverged to different barriers: %s", standing().c_str());
      }
      count += threads[i].value != 0;
    }
    const int result = kind == COUNT ? count : kind == AND ? count == thread_count : count > 0;
    for (int i = 0; i < thread_count; ++i) {
      threads[i].value = result;
      make_ready(i);
    }
  }
  wait();
  return static_cast<int>(threads[self].value);
}

uint64_t collective(Collective kind, const char* name, unsigned mask, uint64_t value, int operand, int width,
    Place place) {
  const int self = current;
  Thread& thread = threads[self];
  if (!(mask >> self % kWarp & 1)) {
    fail("%s (%s:%d): the mask %08x does not name the calling lane %d", name, place.file, place.line, mask,
        self % kWarp);
  }
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0) {
    fail("%s (%s:%d): the width is %d, and has to be a power of two, 32 at most", name, place.file, place.line, width);
  }
  thread.state = AT_COLLECTIVE;
  thread.name = name;
  thread.place = place;
  thread.kind = kind;
  thread.mask = mask;
  thread.value = value;
  thread.operand = operand;
  thread.width = width;
  ready.remove(self);
  at_collective[self / kWarp] |= 1u << self % kWarp;
  try_collective(self / kWarp, thread);
  wait();
  return threads[self].value;
}

}  // namespace emulated_cuda
