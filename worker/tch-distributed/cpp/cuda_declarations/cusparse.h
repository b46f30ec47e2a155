// torch's CUDA headers name the handles and states of libraries that are not used here, and whose own headers
// come in packages of hundreds of megabytes. These files declare the least that is named. They are last
// on the search path, so that the real ones win where they are.
#pragma once
struct cusparseContext;
using cusparseHandle_t = cusparseContext*;
enum cusparseStatus_t : int;
extern "C" const char* cusparseGetErrorString(cusparseStatus_t);
