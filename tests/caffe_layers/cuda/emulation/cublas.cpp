// cuBLAS by the host's BLAS, and by loops where a BLAS may treat NaN or a factor of 0 in a way of its own. Sums are in
// double: a device adds in a tree, whose error is far smaller than that of one float after another.

#include <cublas_v2.h>

#include <algorithm>
#include <cmath>

extern "C" {
#include <cblas.h>
}

#include "internal.hpp"

struct cublasContext {
  cudaStream_t stream;
};

namespace emulated_cuda {
namespace {

CBLAS_TRANSPOSE host(cublasOperation_t operation) { return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

void gemm(cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k, float alpha, const float* a,
    int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasColMajor, host(transa), host(transb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void gemm(cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k, double alpha, const double* a,
    int lda, const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasColMajor, host(transa), host(transb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <typename Number>
Number* matrix_memory(const char* what, Number* matrix, int rows, int columns, int leading) {
  const bool empty = rows <= 0 || columns <= 0;
  return device_memory(what, matrix,
      empty ? 0 : sizeof(Number) * (static_cast<size_t>(columns - 1) * leading + rows));
}

template <typename Number>
Number* vector_memory(const char* what, Number* vector, int n, int step) {
  return device_memory(what, vector, n <= 0 ? 0 : sizeof(Number) * (static_cast<size_t>(n - 1) * std::abs(step) + 1));
}

template <typename Number>
cublasStatus_t matrix_product(cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
    const Number* alpha, const Number* a, int lda, const Number* b, int ldb, const Number* beta, Number* c, int ldc) {
  const int a_rows = transa == CUBLAS_OP_N ? m : k, b_rows = transb == CUBLAS_OP_N ? k : n;
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, a_rows) || ldb < std::max(1, b_rows) || ldc < std::max(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  check_host("gemm's alpha", alpha);
  check_host("gemm's beta", beta);
  a = matrix_memory("gemm's A", a, a_rows, transa == CUBLAS_OP_N ? k : m, lda);
  b = matrix_memory("gemm's B", b, b_rows, transb == CUBLAS_OP_N ? n : k, ldb);
  c = matrix_memory("gemm's C", c, m, n, ldc);
  if (*beta == 0) {  // then C is not read
    for (int j = 0; j < n; ++j) {
      std::fill(c + static_cast<size_t>(j) * ldc, c + static_cast<size_t>(j) * ldc + m, Number(0));
    }
  }
  if (m > 0 && n > 0 && k > 0) {
    gemm(transa, transb, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc);
  } else {
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < m; ++i) {
        c[static_cast<size_t>(j) * ldc + i] *= *beta;
      }
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

template <typename Number>
cublasStatus_t matrix_vector(cublasOperation_t trans, int m, int n, const Number* alpha, const Number* a, int lda,
    const Number* x, int incx, const Number* beta, Number* y, int incy) {
  if (m < 0 || n < 0 || lda < std::max(1, m) || incx == 0 || incy == 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (m == 0 || n == 0) {
    return CUBLAS_STATUS_SUCCESS;
  }
  if (incx < 0 || incy < 0) {
    return CUBLAS_STATUS_NOT_SUPPORTED;  // here; Caffe has no such call
  }
  const bool plain = trans == CUBLAS_OP_N;
  const int inner = plain ? n : m, outer = plain ? m : n;
  check_host("gemv's alpha", alpha);
  check_host("gemv's beta", beta);
  a = matrix_memory("gemv's A", a, m, n, lda);
  x = vector_memory("gemv's x", x, inner, incx);
  y = vector_memory("gemv's y", y, outer, incy);
  for (int i = 0; i < outer; ++i) {
    double sum = 0;
    for (int j = 0; j < inner; ++j) {
      sum += static_cast<double>(a[plain ? static_cast<size_t>(j) * lda + i : static_cast<size_t>(i) * lda + j]) *
          x[static_cast<size_t>(j) * incx];
    }
    Number& to = y[static_cast<size_t>(i) * incy];
    to = *beta == 0 ? Number(*alpha * sum) : Number(*alpha * sum + *beta * to);
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace emulated_cuda

using namespace emulated_cuda;  // NOLINT(build/namespaces)

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

#define EMULATED_CUBLAS(letter, Number)                                                                             \
  cublasStatus_t cublas##letter##gemm(cublasHandle_t, cublasOperation_t transa, cublasOperation_t transb, int m,    \
      int n, int k, const Number* alpha, const Number* a, int lda, const Number* b, int ldb, const Number* beta,    \
      Number* c, int ldc) {                                                                                         \
    return matrix_product(transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                            \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##gemv(cublasHandle_t, cublasOperation_t trans, int m, int n, const Number* alpha,   \
      const Number* a, int lda, const Number* x, int incx, const Number* beta, Number* y, int incy) {               \
    return matrix_vector(trans, m, n, alpha, a, lda, x, incx, beta, y, incy);                                       \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##axpy(cublasHandle_t, int n, const Number* alpha, const Number* x, int incx,        \
      Number* y, int incy) {                                                                                        \
    check_host("axpy's alpha", alpha);                                                                              \
    x = vector_memory("axpy's x", x, n, incx);                                                                      \
    y = vector_memory("axpy's y", y, n, incy);                                                                      \
    for (int i = 0; i < n; ++i) {                                                                                   \
      y[static_cast<size_t>(i) * incy] += *alpha * x[static_cast<size_t>(i) * incx];                                \
    }                                                                                                               \
    return CUBLAS_STATUS_SUCCESS;                                                                                   \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##scal(cublasHandle_t, int n, const Number* alpha, Number* x, int incx) {            \
    check_host("scal's alpha", alpha);                                                                              \
    x = vector_memory("scal's x", x, n, incx);                                                                      \
    for (int i = 0; i < n; ++i) {                                                                                   \
      x[static_cast<size_t>(i) * incx] *= *alpha;                                                                   \
    }                                                                                                               \
    return CUBLAS_STATUS_SUCCESS;                                                                                   \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##copy(cublasHandle_t, int n, const Number* x, int incx, Number* y, int incy) {      \
    x = vector_memory("copy's x", x, n, incx);                                                                      \
    y = vector_memory("copy's y", y, n, incy);                                                                      \
    for (int i = 0; i < n; ++i) {                                                                                   \
      y[static_cast<size_t>(i) * incy] = x[static_cast<size_t>(i) * incx];                                          \
    }                                                                                                               \
    return CUBLAS_STATUS_SUCCESS;                                                                                   \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##dot(cublasHandle_t, int n, const Number* x, int incx, const Number* y, int incy,   \
      Number* result) {                                                                                             \
    check_host("dot's result", result);                                                                             \
    x = vector_memory("dot's x", x, n, incx);                                                                       \
    y = vector_memory("dot's y", y, n, incy);                                                                       \
    double sum = 0;                                                                                                 \
    for (int i = 0; i < n; ++i) {                                                                                   \
      sum += static_cast<double>(x[static_cast<size_t>(i) * incx]) * y[static_cast<size_t>(i) * incy];              \
    }                                                                                                               \
    *result = static_cast<Number>(sum);                                                                             \
    return CUBLAS_STATUS_SUCCESS;                                                                                   \
  }                                                                                                                 \
  cublasStatus_t cublas##letter##asum(cublasHandle_t, int n, const Number* x, int incx, Number* result) {           \
    check_host("asum's result", result);                                                                            \
    x = vector_memory("asum's x", x, n, incx);                                                                      \
    double sum = 0;                                                                                                 \
    for (int i = 0; i < n; ++i) {                                                                                   \
      sum += std::abs(x[static_cast<size_t>(i) * incx]);                                                            \
    }                                                                                                               \
    *result = static_cast<Number>(sum);                                                                             \
    return CUBLAS_STATUS_SUCCESS;                                                                                   \
  }

EMULATED_CUBLAS(S, float)
EMULATED_CUBLAS(D, double)
