// Process groups and their plain collectives.
#include "shim.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>

namespace {
GroupRef& group(void* p) { return *static_cast<GroupRef*>(p); }

// Runs an in-place collective on a contiguous stand-in where the tensor itself is not contiguous.
template <class F>
void in_place(const at::Tensor& t, F&& collective) {
  at::NoGradGuard no_grad;
  auto target = t.detach();
  auto work = target.is_contiguous() ? target : target.contiguous();
  std::vector<at::Tensor> list{work};
  collective(list);
  if (!target.is_contiguous()) target.copy_(work);
}
}  // namespace

void all_reduce_sum_(const GroupCall& call, at::Tensor& t) {
  std::vector<at::Tensor> list{t};
  c10d::AllreduceOptions options;
  options.timeout = call_timeout(call.timeout_ms);
  call.group->allreduce(list, options)->wait();
}

at::Tensor all_gather_stack(const GroupCall& call, const at::Tensor& t) {
  auto local = t.contiguous();
  auto shape = local.sizes().vec();
  shape.insert(shape.begin(), call.group->getSize());
  auto gathered = at::empty(shape, local.options());
  auto flat_out = gathered.view({-1});
  auto flat_in = local.view({-1});
  c10d::AllgatherOptions options;
  options.timeout = call_timeout(call.timeout_ms);
  call.group->all_gather_single(flat_out, flat_in, options)->wait();
  return gathered;
}

extern "C" {
// `interface` goes before `address`; empty ones leave the choice to torch.
int tchd_group_gloo(void* store, const char* name, int rank, int world_size, int64_t timeout_ms,
                    const char* interface, const char* address, int threads, void** out) {
  return guarded([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    options->devices.push_back(*interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                               : *address ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                          : c10d::ProcessGroupGloo::createDefaultDevice());
    options->threads = threads;
    auto prefixed =
        c10::make_intrusive<c10d::PrefixStore>(std::string("gloo/") + name, *static_cast<StoreRef*>(store));
    auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(prefixed, rank, world_size, options);
    auto g = c10::make_intrusive<c10d::ProcessGroup>(prefixed, rank, world_size);
    g->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, backend);
    g->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    g->setGroupName(name);
    *out = new GroupRef(std::move(g));
  });
}

void tchd_group_free(void* g) {
  (void)guarded([&] { delete static_cast<GroupRef*>(g); });
}

// `op` counts as c10d::ReduceOp::RedOpType does: 0 sum, 3 min, 4 max.
int tchd_all_reduce(void* g, TensorPtr t, int op, int64_t timeout_ms) {
  return guarded([&] {
    in_place(*t, [&](std::vector<at::Tensor>& list) {
      c10d::AllreduceOptions options;
      options.reduceOp = c10d::ReduceOp(static_cast<c10d::ReduceOp::RedOpType>(op));
      options.timeout = call_timeout(timeout_ms);
      group(g)->allreduce(list, options)->wait();
    });
  });
}

int tchd_all_gather(void* g, TensorPtr t, int64_t timeout_ms, TensorPtr* out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *out = new at::Tensor(all_gather_stack(GroupCall(group(g), timeout_ms), t->detach()));
  });
}

int tchd_broadcast(void* g, TensorPtr t, int root, int64_t timeout_ms) {
  return guarded([&] {
    in_place(*t, [&](std::vector<at::Tensor>& list) {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      options.timeout = call_timeout(timeout_ms);
      group(g)->broadcast(list, options)->wait();
    });
  });
}

// Many tensors in few messages of at most `buffer_bytes`.
int tchd_broadcast_many(void* g, TensorPtr* tensors, size_t n, int64_t buffer_bytes, int root) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto list = to_vector(tensors, n);
    for (auto& t : list) t = t.detach();
    c10d::broadcast_coalesced(group(g), list, buffer_bytes, root);
  });
}

int tchd_barrier(void* g, int64_t timeout_ms) {
  return guarded([&] {
    c10d::BarrierOptions options;
    options.timeout = call_timeout(timeout_ms);
    group(g)->barrier(options)->wait();
  });
}
}
