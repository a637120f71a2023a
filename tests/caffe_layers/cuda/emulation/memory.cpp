// Device memory. What cudaMalloc gives out are addresses in a range that nobody can read or write, so that host code which
// uses one stops. The memory they stand for lies in a second range, as far from the first for every address; kernels and
// libraries get that: see check_argument and device_memory.

#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "emulated_cuda/launch.hpp"
#include "internal.hpp"

namespace emulated_cuda {
namespace {

const size_t kReserved = size_t(1) << 36;  // of the address space; memory is taken only where something is written
const size_t kAlignment = 256;
const size_t kGuard = 256;  // before and behind every allocation
const uint32_t kPoison = 0xfff1c0deu;

void catch_segmentation_faults();

class Device {
 public:
  /// Never destroyed: Caffe's own static objects free memory when the program ends.
  static Device& get() {
    static Device& device = *new Device;
    return device;
  }

  bool contains(const void* pointer) const {
    const char* p = static_cast<const char*>(pointer);
    return p >= addresses_ && p < addresses_ + kReserved;
  }

  /// The memory of an address.
  void* memory(const void* pointer) const { return base_ + (static_cast<const char*>(pointer) - addresses_); }

  void* allocate(size_t size) {
    const size_t whole = kGuard + (size + kAlignment - 1) / kAlignment * kAlignment + kGuard;
    size_t at = top_;
    std::map<size_t, size_t>::iterator hole = holes_.begin();
    while (hole != holes_.end() && hole->second < whole) {
      ++hole;
    }
    if (hole != holes_.end()) {
      at = hole->first;
      if (hole->second > whole) {
        holes_[at + whole] = hole->second - whole;
      }
      holes_.erase(hole);
    } else {
      if (top_ + whole > kReserved) {
        return nullptr;
      }
      top_ += whole;
    }
    allocations_[at + kGuard] = Allocation{size, whole};
    poison(base_ + at, whole);
    return addresses_ + at + kGuard;
  }

  bool release(void* pointer) {
    const std::map<size_t, Allocation>::iterator found = allocations_.find(static_cast<char*>(pointer) - addresses_);
    if (!contains(pointer) || found == allocations_.end()) {
      return false;
    }
    const size_t whole = found->second.whole;
    size_t at = found->first - kGuard;
    allocations_.erase(found);
    poison(base_ + at, whole);
    std::map<size_t, size_t>::iterator hole = holes_.insert(std::make_pair(at, whole)).first;
    const std::map<size_t, size_t>::iterator next = std::next(hole);
    if (next != holes_.end() && at + whole == next->first) {
      hole->second += next->second;
      holes_.erase(next);
    }
    if (hole != holes_.begin()) {
      const std::map<size_t, size_t>::iterator before = std::prev(hole);
      if (before->first + before->second == at) {
        before->second += hole->second;
        holes_.erase(hole);
      }
    }
    return true;
  }

  /// The bytes from `pointer` to the end of its allocation, or -1.
  ptrdiff_t left(const void* pointer) const {
    if (!contains(pointer)) {
      return -1;
    }
    const size_t at = static_cast<const char*>(pointer) - addresses_;
    std::map<size_t, Allocation>::const_iterator found = allocations_.upper_bound(at);
    if (found == allocations_.begin()) {
      return -1;
    }
    --found;
    const size_t offset = at - found->first;
    return offset <= found->second.size ? static_cast<ptrdiff_t>(found->second.size - offset) : -1;
  }

  /// The first allocation that something wrote beside.
  bool damaged(size_t* size, ptrdiff_t* offset) const {
    for (const std::pair<const size_t, Allocation>& entry : allocations_) {
      const char* start = base_ + entry.first - kGuard;
      const char* end = start + entry.second.whole;
      const char* behind = base_ + entry.first + entry.second.size;
      if (memcmp(start, pattern_, kGuard) == 0 &&
          memcmp(behind, pattern_ + (behind - start) % sizeof(kPoison), end - behind) == 0) {
        continue;
      }
      for (const char* p = start; p < end; ++p) {
        if (p == base_ + entry.first) {
          p = behind;
        }
        if (*p != pattern_[(p - start) % sizeof(kPoison)]) {
          *size = entry.second.size;
          *offset = p - (base_ + entry.first);
          return true;
        }
      }
    }
    return false;
  }

 private:
  struct Allocation {
    size_t size, whole;
  };

  Device() : top_(0) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* addresses = mmap(nullptr, kReserved, PROT_NONE, flags, -1, 0);
    void* memory = mmap(nullptr, kReserved, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (addresses == MAP_FAILED || memory == MAP_FAILED) {
      fail("cannot reserve twice %zu bytes of the address space", kReserved);
    }
    addresses_ = static_cast<char*>(addresses);
    base_ = static_cast<char*>(memory);
    poison(pattern_, sizeof(pattern_));
    catch_segmentation_faults();
  }

  char* addresses_;
  char* base_;
  size_t top_;
  std::map<size_t, Allocation> allocations_;  // by the place of their first byte
  std::map<size_t, size_t> holes_;
  char pattern_[2 * kGuard + kAlignment + sizeof(kPoison)];
};

struct sigaction previous_action;

void on_segmentation_fault(int, siginfo_t* info, void*) {
  const std::string place = where();
  if (Device::get().contains(info->si_addr)) {
    fprintf(stderr, "emulated CUDA: %s touches device memory at %p (bytes left in its allocation: %td)%s\n",
        place.empty() ? "host code" : "a kernel, by a pointer that was no argument of its own,", info->si_addr,
        Device::get().left(info->si_addr), place.c_str());
  } else if (!place.empty()) {
    fprintf(stderr, "emulated CUDA: no memory at %p%s\n", info->si_addr, place.c_str());
  } else {
    sigaction(SIGSEGV, &previous_action, nullptr);  // somebody else's; happens again when this returns
    return;
  }
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  abort();
}

void catch_segmentation_faults() {
  static char stack[1 << 16];  // a kernel's own may be what is full
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof(stack);
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_segmentation_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous_action);
}

cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  const bool to_device = is_device(to), from_device = is_device(from);
  if (kind != cudaMemcpyDefault && (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
      from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))) {
    return set_error(cudaErrorInvalidValue);
  }
  if (size == 0) {
    return cudaSuccess;
  }
  if (to_device) {
    to = device_memory("cudaMemcpy's target", to, size);
  }
  if (from_device) {
    from = device_memory("cudaMemcpy's source", from, size);
  }
  memmove(to, from, size);
  return cudaSuccess;
}

}  // namespace

bool is_device(const void* pointer) { return Device::get().contains(pointer); }

void* device_memory(const char* what, const void* pointer, size_t size) {
  if (size == 0) {
    return nullptr;
  }
  if (!is_device(pointer)) {
    fail("%s (%p) is not device memory", what, pointer);
  }
  const ptrdiff_t left = Device::get().left(pointer);
  if (left < 0) {
    fail("%s (%p) is device memory that is not allocated", what, pointer);
  }
  if (static_cast<size_t>(left) < size) {
    fail("%s (%p) should have %zu bytes, and its allocation ends after %td", what, pointer, size, left);
  }
  return Device::get().memory(pointer);
}

void check_host(const char* what, const void* pointer) {
  if (is_device(pointer)) {
    fail("%s (%p) is device memory, and has to be on the host", what, pointer);
  }
}

void* check_argument(const Launch& launch, int number, const void* pointer) {
  if (pointer == nullptr) {
    return nullptr;
  }
  if (!is_device(pointer)) {
    fail("argument %d of kernel %s, launched at %s:%d, is a pointer to host memory (%p)", number, launch.kernel,
        launch.place.file, launch.place.line, pointer);
  }
  if (Device::get().left(pointer) < 0) {
    fail("argument %d of kernel %s, launched at %s:%d, points to device memory that is not allocated (%p)", number,
        launch.kernel, launch.place.file, launch.place.line, pointer);
  }
  return Device::get().memory(pointer);
}

void check_guards(const char* what) {
  size_t size;
  ptrdiff_t offset;
  if (Device::get().damaged(&size, &offset)) {
    fail("%s wrote out of range: at byte %td of an allocation of %zu bytes", what, offset, size);
  }
}

void poison(void* start, size_t size) {
  char* to = static_cast<char*>(start);
  for (; size >= sizeof(kPoison); to += sizeof(kPoison), size -= sizeof(kPoison)) {
    memcpy(to, &kPoison, sizeof(kPoison));
  }
  memcpy(to, &kPoison, size);
}

}  // namespace emulated_cuda

using emulated_cuda::Device;
using emulated_cuda::set_error;

cudaError_t cudaMalloc(void** pointer, size_t size) {
  *pointer = nullptr;
  if (size == 0) {
    return cudaSuccess;
  }
  *pointer = Device::get().allocate(size);
  return *pointer ? cudaSuccess : set_error(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* pointer) {
  if (!pointer) {
    return cudaSuccess;
  }
  emulated_cuda::check_guards("something before cudaFree");
  return Device::get().release(pointer) ? cudaSuccess : set_error(cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** pointer, size_t size) {
  *pointer = malloc(size ? size : 1);
  if (!*pointer) {
    return set_error(cudaErrorMemoryAllocation);
  }
  emulated_cuda::poison(*pointer, size);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* pointer, int value, size_t size) {
  void* memory = emulated_cuda::device_memory("cudaMemset's target", pointer, size);
  if (size > 0) {
    memset(memory, value, size);
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  return emulated_cuda::copy(to, from, size, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
  return emulated_cuda::copy(to, from, size, kind);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const bool device = emulated_cuda::is_device(pointer);
  attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  attributes->device = 0;
  attributes->devicePointer = device ? const_cast<void*>(pointer) : nullptr;
  attributes->hostPointer = device ? nullptr : const_cast<void*>(pointer);
  return cudaSuccess;
}
