// Autocast with a device and a type of the caller's choice, and the run-time loading of CUDA.
#include "shim.h"

#include <ATen/Operators.h>
#include <ATen/autocast_mode.h>
#include <dlfcn.h>
#include <torch/library.h>

#include <filesystem>

// On the CPU torch's autocast leaves these in half precision, on CUDA it computes them in f32. What is tested
// on the CPU shall be what trains on CUDA, so here both do as CUDA does.
TORCH_LIBRARY_IMPL(aten, AutocastCPU, m) {
  KERNEL_CPU(layer_norm, fp32)
  KERNEL_CPU(native_layer_norm, fp32)
  KERNEL_CPU(rms_norm, fp32)
  KERNEL_CPU(group_norm, fp32)
  KERNEL_CPU(cosine_similarity, fp32)
  KERNEL_CPU(logsumexp, fp32)
  KERNEL_CPU(exp, fp32)
  KERNEL_CPU(log, fp32)
  KERNEL_CPU(pow, Tensor_Scalar, fp32)
  KERNEL_CPU(pow, Tensor_Tensor, fp32)
  KERNEL_CPU(pow, Scalar, fp32)
  KERNEL_CPU(reciprocal, fp32)
  KERNEL_CPU(rsqrt, fp32)
  KERNEL_CPU(softmax, int, fp32_set_opt_dtype)
  KERNEL_CPU(log_softmax, int, fp32_set_opt_dtype)
  KERNEL_CPU(sum, fp32_set_opt_dtype)
  KERNEL_CPU(sum, dim_IntList, fp32_set_opt_dtype)
  KERNEL_CPU(cumsum, fp32_set_opt_dtype)
  KERNEL_CPU(linalg_vector_norm, fp32_set_opt_dtype)
  // The macro names these bare.
  using at::IntArrayRef, at::Scalar, at::ScalarType, at::Tensor;
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_CPU)  // norm
}

extern "C" {
int tchd_autocast_enter(int device_type, bool enabled, int type, bool* was_enabled, int* old_type) {
  return guarded([&] {
    const auto device = static_cast<at::DeviceType>(device_type);
    *was_enabled = at::autocast::is_autocast_enabled(device);
    *old_type = static_cast<int>(at::autocast::get_autocast_dtype(device));
    at::autocast::set_autocast_enabled(device, enabled);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(type));
    at::autocast::increment_nesting();
  });
}

int tchd_autocast_now(int device_type, bool* enabled, int* type) {
  return guarded([&] {
    const auto device = static_cast<at::DeviceType>(device_type);
    *enabled = at::autocast::is_autocast_enabled(device);
    *type = static_cast<int>(at::autocast::get_autocast_dtype(device));
  });
}

void tchd_autocast_leave(int device_type, bool was_enabled, int old_type) {
  (void)guarded([&] {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    const auto device = static_cast<at::DeviceType>(device_type);
    at::autocast::set_autocast_enabled(device, was_enabled);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(old_type));
  });
}

// Looks beside the libtorch_cpu.so in use: one libtorch, never two.
int tchd_load_cuda(bool* loaded) {
  return guarded([&] {
    *loaded = false;
    Dl_info info;
    TORCH_CHECK(dladdr(reinterpret_cast<void*>(&at::autocast::clear_cache), &info) && info.dli_fname,
                "cannot find out where libtorch_cpu.so was loaded from");
    auto library = std::filesystem::path(info.dli_fname).parent_path() / "libtorch_cuda.so";
    if (!std::filesystem::exists(library)) return;
    if (!dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
      const char* why = dlerror();
      throw std::runtime_error("cannot load " + library.string() + ": " + (why ? why : "no reason given"));
    }
    *loaded = true;
  });
}
}
