#ifndef EMULATED_CUBLAS_V2_H_
#define EMULATED_CUBLAS_V2_H_

// The part of cuBLAS that Caffe calls. Scalars are on the host (CUBLAS_POINTER_MODE_HOST), arrays on the device.

#include <cuda_runtime.h>

typedef struct cublasContext* cublasHandle_t;

typedef enum {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
  CUBLAS_STATUS_LICENSE_ERROR = 16
} cublasStatus_t;

typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 } cublasOperation_t;

cublasStatus_t cublasCreate(cublasHandle_t* handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);

#define EMULATED_CUBLAS(letter, type)                                                                               \
  cublasStatus_t cublas##letter##gemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,    \
      int m, int n, int k, const type* alpha, const type* a, int lda, const type* b, int ldb, const type* beta,     \
      type* c, int ldc);                                                                                            \
  cublasStatus_t cublas##letter##gemv(cublasHandle_t handle, cublasOperation_t trans, int m, int n,                 \
      const type* alpha, const type* a, int lda, const type* x, int incx, const type* beta, type* y, int incy);     \
  cublasStatus_t cublas##letter##axpy(cublasHandle_t handle, int n, const type* alpha, const type* x, int incx,     \
      type* y, int incy);                                                                                           \
  cublasStatus_t cublas##letter##scal(cublasHandle_t handle, int n, const type* alpha, type* x, int incx);          \
  cublasStatus_t cublas##letter##copy(cublasHandle_t handle, int n, const type* x, int incx, type* y, int incy);    \
  cublasStatus_t cublas##letter##dot(cublasHandle_t handle, int n, const type* x, int incx, const type* y,          \
      int incy, type* result);                                                                                      \
  cublasStatus_t cublas##letter##asum(cublasHandle_t handle, int n, const type* x, int incx, type* result);

EMULATED_CUBLAS(S, float)
EMULATED_CUBLAS(D, double)
#undef EMULATED_CUBLAS

#endif  // EMULATED_CUBLAS_V2_H_
