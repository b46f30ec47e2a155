// Declarations only: see cusparse.h.
#pragma once
struct cublasLtContext;
using cublasLtHandle_t = cublasLtContext*;
