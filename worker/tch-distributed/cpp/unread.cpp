// A linear layer for its gradient alone.
#include "shim.h"

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
// x [..., K], weight [N, K], bias [N]. What `at::linear` leaves for its backward pass, and what that
// then does, without the product in between.
struct UnreadLinear : torch::autograd::Function<UnreadLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, bool convolution) {
    TORCH_CHECK(x.dim() > 0 && weight.dim() == 2 && bias.dim() == 1 && x.size(-1) == weight.size(1) &&
                    bias.size(0) == weight.size(0),
                "a linear layer of weight ", weight.sizes(), " and bias ", bias.sizes(), " does not take ", x.sizes());
    ctx->save_for_backward({x, weight});
    ctx->saved_data["convolution"] = convolution;
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return at::zeros({}, x.options()).expand(shape);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto n = weight.size(0), k = weight.size(1);
    const bool for_x = ctx->needs_input_grad(0), for_weight = ctx->needs_input_grad(1);
    const bool for_bias = ctx->needs_input_grad(2);
    at::Tensor dx, dw, db;
    if (ctx->saved_data["convolution"].toBool()) {
      const auto image = [](const at::Tensor& rows, int64_t width) {
        return rows.reshape({1, -1, 1, width}).permute({0, 3, 1, 2});
      };
      std::tie(dx, dw, db) = at::convolution_backward(
          image(grads[0], n), image(x, k), weight.view({n, k, 1, 1}), at::IntArrayRef(n), {1, 1}, {0, 0}, {1, 1},
          /*transposed=*/false, {0, 0}, /*groups=*/1, {for_x, for_weight, for_bias});
      if (for_x) dx = dx.permute({0, 2, 3, 1}).reshape(x.sizes());
      if (for_weight) dw = dw.view({n, k});
    } else {
      const auto dy = grads[0].reshape({-1, n});
      if (for_x) dx = dy.mm(weight).view(x.sizes());
      if (for_weight) dw = dy.t().mm(x.reshape({-1, k}));
      if (for_bias) db = at::sum_to(dy, at::IntArrayRef(n));
    }
    return {dx, dw, db, at::Tensor()};
  }
};
}  // namespace

extern "C" int tchd_unread_linear(TensorPtr x, TensorPtr weight, TensorPtr bias, bool convolution, TensorPtr* out) {
  return guarded([&] { *out = new at::Tensor(UnreadLinear::apply(*x, *weight, *bias, convolution)); });
}
