// Devices: which one, what it can, its memory; and the switches that decide whether numbers repeat.
// Through libtorch's device-neutral interfaces, so that no symbol of CUDA is named at link time.
#include "shim.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <cstdlib>

namespace {
// CUDA's runtime is there once libtorch_cuda.so is loaded; its C interface is stable.
template <class F>
F* cuda_runtime(const char* name) {
  auto* f = reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
  TORCH_CHECK(f, "CUDA's runtime is not loaded: it has no ", name);
  return f;
}

c10::DeviceAllocator& allocator() { return *c10::getDeviceAllocator(at::kCUDA); }

using Stats = c10::CachingAllocator::StatArray;
constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
}  // namespace

extern "C" {
// `version` as in 13000 for CUDA 13.0.
int tchd_cuda_capability(int device, int* major, int* minor, int* version) {
  return guarded([&] {
    auto* attribute = cuda_runtime<int(int*, int, int)>("cudaDeviceGetAttribute");
    constexpr int kMajor = 75, kMinor = 76;  // cudaDevAttrComputeCapability{Major,Minor}
    const int failed = attribute(major, kMajor, device) | attribute(minor, kMinor, device) |
                       cuda_runtime<int(int*)>("cudaRuntimeGetVersion")(version);
    TORCH_CHECK(!failed, "CUDA cannot say what device ", device, " is (error ", failed, ")");
  });
}

int tchd_set_device(int device) {
  return guarded([&] {
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
  });
}

int tchd_synchronize(int device) {
  return guarded([&] { at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device)); });
}

// Bytes: allocated, most allocated, reserved, most reserved, free, in all.
int tchd_memory(int device, int64_t* six) {
  return guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    auto stats = allocator().getDeviceStats(index);
    const auto& used = stats.allocated_bytes[kAll];
    const auto& kept = stats.reserved_bytes[kAll];
    auto [free, total] = allocator().getMemoryInfo(index);
    const int64_t values[] = {used.current, used.peak, kept.current, kept.peak, int64_t(free), int64_t(total)};
    std::copy(std::begin(values), std::end(values), six);
  });
}

int tchd_memory_reset_peak(int device) {
  return guarded([&] { allocator().resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

int tchd_memory_release() {
  return guarded([&] { allocator().emptyCache(); });
}

int tchd_deterministic(bool on) {
  return guarded([&] {
    // Read by torch when a cuBLAS handle is made; what the user has set stays.
    if (on) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(on, /*warn_only=*/false);
    // Nobody reads memory that was not written; filling it costs time.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(on);
    context.setBenchmarkCuDNN(!on);
  });
}

int tchd_tf32(bool products, bool convolutions) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuBLAS(products);
    at::globalContext().setAllowTF32CuDNN(convolutions);
  });
}
}
