#ifndef EMULATED_CUDA_TYPES_HPP_
#define EMULATED_CUDA_TYPES_HPP_

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned int x, y, z;
};

struct dim3 {
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
  unsigned int x, y, z;
};

#define EMULATED_CUDA_VECTORS(type, name, alignment2, alignment4)                                  \
  struct __align__(alignment2) name##2 {                                                           \
    type x, y;                                                                                     \
  };                                                                                               \
  struct __align__(alignment4) name##4 {                                                           \
    type x, y, z, w;                                                                               \
  };                                                                                               \
  inline name##2 make_##name##2(type x, type y) { return name##2{x, y}; }                          \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4{x, y, z, w}; }

EMULATED_CUDA_VECTORS(int, int, 8, 16)
EMULATED_CUDA_VECTORS(unsigned int, uint, 8, 16)
EMULATED_CUDA_VECTORS(float, float, 8, 16)
EMULATED_CUDA_VECTORS(double, double, 16, 16)

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;  // named by a header of Caffe; nothing here times anything

#endif  // EMULATED_CUDA_TYPES_HPP_
