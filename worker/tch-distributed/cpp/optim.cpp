// Operations over lists of tensors that tch does not bind.
#include "shim.h"

extern "C" {
// One fused step, which counts up `steps`. All lists have `n` entries. `grad_scale` and `found_inf` (one f32
// value each) may be null: gradients are divided by the first, and where the second is 1 nothing happens,
// neither to values nor to step counts, and the host need not know.
int tchd_fused_adamw(TensorPtr* params, TensorPtr* grads, TensorPtr* exp_avgs, TensorPtr* exp_avg_sqs,
                     TensorPtr* steps, size_t n, double lr, double beta1, double beta2, double weight_decay,
                     double eps, TensorPtr grad_scale, TensorPtr found_inf) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto given = [](TensorPtr t) { return t ? std::make_optional(*t) : std::nullopt; };
    auto p = to_vector(params, n), g = to_vector(grads, n), m = to_vector(exp_avgs, n), v = to_vector(exp_avg_sqs, n),
         s = to_vector(steps, n);
    at::_foreach_add_(s, 1);
    at::_fused_adamw_(p, g, m, v, /*max_exp_avg_sqs=*/{}, s, lr, beta1, beta2, weight_decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false, given(grad_scale), given(found_inf));
    // The kernel leaves values alone; the count is ours.
    if (found_inf) at::_foreach_sub_(s, std::vector<at::Tensor>(n, *found_inf));
  });
}

// The gradients become undefined, as they are in a fresh process.
int tchd_drop_grads(TensorPtr* params, size_t n) {
  return guarded([&] {
    for (size_t i = 0; i < n; i++) params[i]->mutable_grad().reset();
  });
}

// 2-norm of all of them together; each norm by itself, then the norm of the norms. [] f32 or f64.
int tchd_norm(TensorPtr* tensors, size_t n, TensorPtr* out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto list = to_vector(tensors, n);
    if (list.empty()) {
      *out = new at::Tensor(at::zeros({}));
      return;
    }
    auto norms = at::_foreach_norm(list, 2);
    for (auto& t : norms) t = t.to(norms[0].options());
    *out = new at::Tensor(at::linalg_vector_norm(at::stack(norms)));
  });
}

int tchd_scale(TensorPtr* tensors, size_t n, TensorPtr factor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto list = to_vector(tensors, n);
    at::_foreach_mul_(list, *factor);
  });
}
}
