// Declarations only: see cusparse.h.
#pragma once
struct cusolverDnContext;
using cusolverDnHandle_t = cusolverDnContext*;
enum cusolverStatus_t : int;
