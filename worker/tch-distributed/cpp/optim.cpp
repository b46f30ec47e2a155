// Operations over lists of tensors that tch does not bind.
#include "shim.h"

extern "C" {
// One fused step; the caller has already counted up `steps`. All lists have `n` entries.
int tchd_fused_adamw(TensorPtr* params, TensorPtr* grads, TensorPtr* exp_avgs, TensorPtr* exp_avg_sqs,
                     TensorPtr* steps, size_t n, double lr, double beta1, double beta2, double weight_decay,
                     double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = to_vector(params, n), g = to_vector(grads, n), m = to_vector(exp_avgs, n), v = to_vector(exp_avg_sqs, n),
         s = to_vector(steps, n);
    at::_fused_adamw_(p, g, m, v, /*max_exp_avg_sqs=*/{}, s, lr, beta1, beta2, weight_decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false);
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
