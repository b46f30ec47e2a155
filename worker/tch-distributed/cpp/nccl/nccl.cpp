// NCCL, in a shared object of its own that is loaded at run time, after libtorch_cuda.so: were it part of
// the program, the program would need CUDA's libraries everywhere. Nothing is linked; every symbol is found
// among what is loaded already.
#include "../shim.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace {
int (*remember)(Status, const char*) = nullptr;
}

// The program keeps the text of the last error, for both.
int remember_error(Status status, const char* message) { return remember ? remember(status, message) : status; }

extern "C" {
// Raised whenever a signature below changes: a program and an object of different builds must not meet.
int tchd_nccl_interface() { return 1; }

void tchd_nccl_start(int (*sink)(Status, const char*)) { remember = sink; }

// Gives a group that already serves the CPU NCCL for its tensors on CUDA device `device`.
int tchd_nccl_attach(void* g, void* store, const char* name, int device, int64_t timeout_ms, bool high_priority) {
  return guarded([&] {
    auto& group = *static_cast<GroupRef*>(g);
    auto options = c10d::ProcessGroupNCCL::Options::create(high_priority);
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto prefixed =
        c10::make_intrusive<c10d::PrefixStore>(std::string("nccl/") + name, *static_cast<StoreRef*>(store));
    auto backend =
        c10::make_intrusive<c10d::ProcessGroupNCCL>(prefixed, group->getRank(), group->getSize(), options);
    // A group that knows its device connects now, and not within the first step.
    const at::Device own(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    backend->setBoundDeviceId(own);
    backend->eagerConnectSingleDevice(own);
    group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
    group->setGroupName(name);
  });
}
}
