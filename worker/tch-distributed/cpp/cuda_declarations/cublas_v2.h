// Declarations only: see cusparse.h.
#pragma once
struct cublasContext;
using cublasHandle_t = cublasContext*;
enum cublasStatus_t : int;
