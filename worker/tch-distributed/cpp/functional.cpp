// Collectives that autograd sees through.
#include "shim.h"

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
c10::intrusive_ptr<GroupCall> saved_call(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<GroupCall>(ctx->saved_data["call"].toCapsule());
}

at::Tensor sum_over_ranks(const GroupCall& call, const at::Tensor& t) {
  auto copy = t.detach().clone(at::MemoryFormat::Contiguous);
  all_reduce_sum_(call, copy);
  return copy;
}

// y = sum over ranks of x; dx = sum over ranks of dy.
struct AllReduce : torch::autograd::Function<AllReduce> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, c10::intrusive_ptr<GroupCall> call) {
    ctx->saved_data["call"] = capsule(call);
    return sum_over_ranks(*call, x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    return {sum_over_ranks(*saved_call(ctx), dy[0]), at::Tensor()};
  }
};

// y[r] = x of rank r; dx = sum over ranks of dy[own rank].
struct AllGather : torch::autograd::Function<AllGather> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, c10::intrusive_ptr<GroupCall> call) {
    ctx->saved_data["call"] = capsule(call);
    return all_gather_stack(*call, x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    auto call = saved_call(ctx);
    return {sum_over_ranks(*call, dy[0])[call->group->getRank()].clone(), at::Tensor()};
  }
};
}  // namespace

extern "C" {
int tchd_functional_all_reduce(void* g, TensorPtr t, int64_t timeout_ms, TensorPtr* out) {
  return guarded([&] {
    auto call = c10::make_intrusive<GroupCall>(*static_cast<GroupRef*>(g), timeout_ms);
    *out = new at::Tensor(AllReduce::apply(*t, std::move(call)));
  });
}

int tchd_functional_all_gather(void* g, TensorPtr t, int64_t timeout_ms, TensorPtr* out) {
  return guarded([&] {
    auto call = c10::make_intrusive<GroupCall>(*static_cast<GroupRef*>(g), timeout_ms);
    *out = new at::Tensor(AllGather::apply(*t, std::move(call)));
  });
}
}
