// What every file of the shim shares. The shim is a C interface over parts of libtorch that tch does
// not bind; the safe API is in ../src.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <exception>
#include <string>
#include <utility>
#include <vector>

// tch hands out pointers to heap-allocated at::Tensor; so do we.
using TensorPtr = at::Tensor*;

// Kinds of failure, mirrored in src/error.rs. The text refines them there.
enum Status : int { kOk = 0, kTorch = 1, kDistributed = 2, kOutOfMemory = 3 };

int remember_error(Status status, const char* message);

// Runs `f`; no C++ exception passes this function, whatever it is.
template <class F>
int guarded(F&& f) {
  try {
    f();
    return kOk;
  } catch (const c10::OutOfMemoryError& e) {
    return remember_error(kOutOfMemory, e.what_without_backtrace());
  } catch (const c10::DistError& e) {
    return remember_error(kDistributed, e.what_without_backtrace());
  } catch (const c10::Error& e) {
    return remember_error(kTorch, e.what_without_backtrace());
  } catch (const std::bad_alloc& e) {
    return remember_error(kOutOfMemory, e.what());
  } catch (const std::exception& e) {
    return remember_error(kTorch, e.what());
  } catch (...) {
    return remember_error(kTorch, "an exception of unknown type was thrown inside libtorch");
  }
}

inline std::vector<at::Tensor> to_vector(const TensorPtr* tensors, size_t n) {
  std::vector<at::Tensor> v;
  v.reserve(n);
  for (size_t i = 0; i < n; i++) v.push_back(*tensors[i]);
  return v;
}

// Zero or less stands for "the group's own timeout".
inline std::chrono::milliseconds call_timeout(int64_t ms) {
  return ms > 0 ? std::chrono::milliseconds(ms) : c10d::kUnsetTimeout;
}

using StoreRef = c10::intrusive_ptr<c10d::Store>;
using GroupRef = c10::intrusive_ptr<c10d::ProcessGroup>;

// Puts any intrusive object into an autograd context.
inline at::IValue capsule(c10::intrusive_ptr<torch::CustomClassHolder> object) {
  return at::IValue::make_capsule(std::move(object));
}

// A group and the timeout of one call, kept for the backward pass.
struct GroupCall : torch::CustomClassHolder {
  GroupRef group;
  int64_t timeout_ms;
  GroupCall(GroupRef g, int64_t t) : group(std::move(g)), timeout_ms(t) {}
};

// In place, over all ranks, waiting. `t` must be contiguous.
void all_reduce_sum_(const GroupCall& call, at::Tensor& t);
// [...] on each rank to [W, ...] on all.
at::Tensor all_gather_stack(const GroupCall& call, const at::Tensor& t);
