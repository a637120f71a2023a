#ifndef EMULATED_CUDA_DEVICE_HPP_
#define EMULATED_CUDA_DEVICE_HPP_

// What a kernel may use: the compiler's variables, barriers, shuffles, atomics and arithmetic.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cassert>
#include <cstdio>

#include "emulated_cuda/launch.hpp"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
const int warpSize = 32;

namespace emulated_cuda {

enum Barrier { SYNC, COUNT, AND, OR };
enum Collective { WARP_SYNC, BALLOT, ANY, ALL, SHUFFLE, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };

/// Waits for every thread of the block.
int barrier(Barrier kind, const char* name, int predicate, Place place);
/// Waits for the lanes of the mask.
uint64_t collective(Collective kind, const char* name, unsigned mask, uint64_t value, int operand, int width,
    Place place);

template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename Value>
Value shuffle(Collective kind, const char* name, unsigned mask, Value value, int operand, int width, Place place) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(value));
  bits = collective(kind, name, mask, bits, operand, width, place);
  memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace emulated_cuda

// The caller's place tells barriers apart: threads that wait at different ones have diverged.
#define EMULATED_CUDA_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATED_CUDA_PLACE) {
  emulated_cuda::barrier(emulated_cuda::SYNC, "__syncthreads", 0, {file, line});
}
inline int __syncthreads_count(int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::barrier(emulated_cuda::COUNT, "__syncthreads_count", predicate, {file, line});
}
inline int __syncthreads_and(int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::barrier(emulated_cuda::AND, "__syncthreads_and", predicate, {file, line});
}
inline int __syncthreads_or(int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::barrier(emulated_cuda::OR, "__syncthreads_or", predicate, {file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_CUDA_PLACE) {
  emulated_cuda::collective(emulated_cuda::WARP_SYNC, "__syncwarp", mask, 0, 0, warpSize, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::collective(emulated_cuda::BALLOT, "__ballot_sync", mask, predicate != 0, 0, warpSize,
      {file, line});
}
inline int __any_sync(unsigned mask, int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::collective(emulated_cuda::ANY, "__any_sync", mask, predicate != 0, 0, warpSize, {file, line});
}
inline int __all_sync(unsigned mask, int predicate, EMULATED_CUDA_PLACE) {
  return emulated_cuda::collective(emulated_cuda::ALL, "__all_sync", mask, predicate != 0, 0, warpSize, {file, line});
}

#define EMULATED_CUDA_SHUFFLES(type)                                                                                  \
  inline type __shfl_sync(unsigned mask, type value, int from, int width = warpSize, EMULATED_CUDA_PLACE) {           \
    return emulated_cuda::shuffle(emulated_cuda::SHUFFLE, "__shfl_sync", mask, value, from, width, {file, line});     \
  }                                                                                                                   \
  inline type __shfl_up_sync(unsigned mask, type value, unsigned by, int width = warpSize, EMULATED_CUDA_PLACE) {     \
    return emulated_cuda::shuffle(emulated_cuda::SHUFFLE_UP, "__shfl_up_sync", mask, value, by, width, {file, line}); \
  }                                                                                                                   \
  inline type __shfl_down_sync(unsigned mask, type value, unsigned by, int width = warpSize, EMULATED_CUDA_PLACE) {   \
    return emulated_cuda::shuffle(emulated_cuda::SHUFFLE_DOWN, "__shfl_down_sync", mask, value, by, width,            \
        {file, line});                                                                                                \
  }                                                                                                                   \
  inline type __shfl_xor_sync(unsigned mask, type value, int with, int width = warpSize, EMULATED_CUDA_PLACE) {       \
    return emulated_cuda::shuffle(emulated_cuda::SHUFFLE_XOR, "__shfl_xor_sync", mask, value, with, width,            \
        {file, line});                                                                                                \
  }

EMULATED_CUDA_SHUFFLES(int)
EMULATED_CUDA_SHUFFLES(unsigned int)
EMULATED_CUDA_SHUFFLES(long)
EMULATED_CUDA_SHUFFLES(unsigned long)
EMULATED_CUDA_SHUFFLES(long long)
EMULATED_CUDA_SHUFFLES(unsigned long long)
EMULATED_CUDA_SHUFFLES(float)
EMULATED_CUDA_SHUFFLES(double)

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <typename Value>
Value __ldg(const Value* pointer) {
  return *pointer;
}

// One thread runs at a time, until it waits: nothing comes between the reading and the writing.
#define EMULATED_CUDA_ATOMIC(name, type, result)      \
  inline type name(type* address, type value) {       \
    const type old = *address;                        \
    *address = result;                                \
    return old;                                       \
  }
#define EMULATED_CUDA_ATOMICS(type)                            \
  EMULATED_CUDA_ATOMIC(atomicAdd, type, old + value)           \
  EMULATED_CUDA_ATOMIC(atomicExch, type, value)
#define EMULATED_CUDA_INTEGER_ATOMICS(type)                    \
  EMULATED_CUDA_ATOMICS(type)                                  \
  EMULATED_CUDA_ATOMIC(atomicSub, type, old - value)           \
  EMULATED_CUDA_ATOMIC(atomicMin, type, old < value ? old : value) \
  EMULATED_CUDA_ATOMIC(atomicMax, type, old > value ? old : value) \
  EMULATED_CUDA_ATOMIC(atomicAnd, type, old & value)           \
  EMULATED_CUDA_ATOMIC(atomicOr, type, old | value)            \
  EMULATED_CUDA_ATOMIC(atomicXor, type, old ^ value)           \
  inline type atomicCAS(type* address, type compare, type value) { \
    const type old = *address;                                 \
    *address = old == compare ? value : old;                   \
    return old;                                                \
  }

EMULATED_CUDA_ATOMICS(float)
EMULATED_CUDA_ATOMICS(double)
EMULATED_CUDA_INTEGER_ATOMICS(int)
EMULATED_CUDA_INTEGER_ATOMICS(unsigned int)
EMULATED_CUDA_INTEGER_ATOMICS(unsigned long long)

#define EMULATED_CUDA_MIN_MAX(type, other, result)       \
  inline result min(type a, other b) {                   \
    const result c = a, d = b;                           \
    return c < d ? c : d;                                \
  }                                                      \
  inline result max(type a, other b) {                   \
    const result c = a, d = b;                           \
    return c > d ? c : d;                                \
  }

EMULATED_CUDA_MIN_MAX(int, int, int)
EMULATED_CUDA_MIN_MAX(unsigned int, unsigned int, unsigned int)
EMULATED_CUDA_MIN_MAX(int, unsigned int, unsigned int)
EMULATED_CUDA_MIN_MAX(unsigned int, int, unsigned int)
EMULATED_CUDA_MIN_MAX(long, long, long)
EMULATED_CUDA_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMULATED_CUDA_MIN_MAX(long long, long long, long long)
EMULATED_CUDA_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)

// Of a number and a NaN, CUDA gives the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, double(b)); }
inline double max(double a, float b) { return fmax(a, double(b)); }
inline double min(float a, double b) { return fmin(double(a), b); }
inline double max(float a, double b) { return fmax(double(a), b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

inline int __popc(unsigned int x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

inline int __float_as_int(float x) { return emulated_cuda::bits_as<int>(x); }
inline unsigned int __float_as_uint(float x) { return emulated_cuda::bits_as<unsigned int>(x); }
inline float __int_as_float(int x) { return emulated_cuda::bits_as<float>(x); }
inline float __uint_as_float(unsigned int x) { return emulated_cuda::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return emulated_cuda::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return emulated_cuda::bits_as<double>(x); }

#endif  // EMULATED_CUDA_DEVICE_HPP_
