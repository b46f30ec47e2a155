// Batch normalisation over the batches of all ranks, for any device the group can reduce on.
#include "shim.h"

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
std::vector<int64_t> all_but_channels(const at::Tensor& x) {
  std::vector<int64_t> dims{0};
  for (int64_t d = 2; d < x.dim(); d++) dims.push_back(d);
  return dims;
}

// [C] to [1, C, 1, ...] as `x` needs it.
at::Tensor per_channel(const at::Tensor& t, const at::Tensor& x) {
  std::vector<int64_t> shape(x.dim(), 1);
  shape[1] = -1;
  return t.view(shape);
}

at::Tensor full_precision(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

struct Moments {
  at::Tensor mean, var;  // [C], biased variance, f64
  double count;
};

// One gather of (mean, variance, count) per rank, joined in f64 in the order of ranks: the result is
// the same bits on every rank, and ranks may hold different counts (Chan et al. 1979).
Moments joint_moments(const GroupCall& call, const at::Tensor& x) {
  const auto channels = x.size(1);
  at::Tensor mean, var;
  if (x.device().is_cpu()) {
    std::tie(mean, var) = at::batch_norm_update_stats(x, {}, {}, 0.0);
  } else {
    std::tie(var, mean) = at::var_mean(x, all_but_channels(x), /*correction=*/0, /*keepdim=*/false);
  }
  auto own = at::empty({2 * channels + 1}, x.options().dtype(at::kDouble));
  own.narrow(0, 0, channels).copy_(mean);
  own.narrow(0, channels, channels).copy_(var);
  own[2 * channels].fill_(static_cast<double>(x.numel() / channels));
  auto all = all_gather_stack(call, own);
  auto n = all.select(1, 2 * channels).unsqueeze(1);
  auto means = all.narrow(1, 0, channels);
  auto vars = all.narrow(1, channels, channels);
  auto total = n.sum();
  auto joint = (means * n).sum(0) / total;
  auto joint_var = ((vars + (means - joint).square()) * n).sum(0) / total;
  return {joint, joint_var, total.item<double>()};
}

// libtorch's fused kernels, which are CUDA's alone. They take inputs in half precision with parameters and
// statistics in f32, and both memory formats.
namespace fused {
bool serves(const at::Tensor& x) { return x.is_cuda(); }

at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const std::optional<at::Tensor>& weight,
                   const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& running_mean,
                   const std::optional<at::Tensor>& running_var, double momentum, double eps, const GroupCall& call) {
  auto x = input.contiguous(input.suggest_memory_format());
  const auto channels = x.size(1);
  auto [mean, invstd] = at::batch_norm_stats(x, eps);
  auto count = at::full({1}, static_cast<double>(x.numel() / channels), mean.options());
  auto all = all_gather_stack(call, at::cat({mean, invstd, count}));
  auto counts = all.select(1, 2 * channels).contiguous();
  auto [joint, joint_invstd] = at::batch_norm_gather_stats_with_counts(
      x, all.narrow(1, 0, channels).contiguous(), all.narrow(1, channels, channels).contiguous(), running_mean,
      running_var, momentum, eps, running_mean ? counts.to(running_mean->scalar_type()) : counts);
  ctx->save_for_backward({x, weight.value_or(at::Tensor()), joint, joint_invstd, counts.to(at::kInt)});
  return at::batch_norm_elemt(x, weight, bias, joint, joint_invstd, eps);
}

variable_list backward(AutogradContext* ctx, const GroupCall& call, const at::Tensor& grad) {
  auto saved = ctx->get_saved_variables();
  const auto &x = saved[0], &weight = saved[1], &mean = saved[2], &invstd = saved[3], &counts = saved[4];
  auto scale = weight.defined() ? std::make_optional(weight) : std::nullopt;
  auto dy = grad.contiguous(x.suggest_memory_format());
  const bool input = ctx->needs_input_grad(0);
  auto [sum, dot, dweight, dbias] = at::batch_norm_backward_reduce(dy, x, mean, invstd, scale, input, weight.defined(),
                                                                   ctx->saved_data["has_bias"].toBool());
  at::Tensor dx, none;
  if (input) {
    auto joint = at::stack({sum, dot});
    all_reduce_sum_(call, joint);
    dx = at::batch_norm_backward_elemt(dy, x, mean, invstd, scale, joint[0], joint[1], counts);
  }
  return {dx, dweight, dbias, none, none, none, none, none};
}
}  // namespace fused

struct SyncBatchNorm : torch::autograd::Function<SyncBatchNorm> {
  // Absent tensors must be nullopt: autograd asks undefined ones for their device.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& running_mean,
                            const std::optional<at::Tensor>& running_var, double momentum, double eps,
                            c10::intrusive_ptr<GroupCall> call) {
    ctx->saved_data["call"] = capsule(call);
    ctx->saved_data["has_bias"] = bias.has_value();
    if (fused::serves(input)) {
      return fused::forward(ctx, input, weight, bias, running_mean, running_var, momentum, eps, *call);
    }
    auto x = full_precision(input).contiguous(input.suggest_memory_format());
    auto moments = joint_moments(*call, x);
    TORCH_CHECK(moments.count > 1,
                "batch normalisation in training needs more than one value per channel, over all ranks together");
    auto mean = moments.mean.to(x.scalar_type());
    auto var = moments.var.to(x.scalar_type());
    if (running_mean) running_mean->lerp_(mean.to(running_mean->scalar_type()), momentum);
    if (running_var) {
      auto unbiased = moments.var * (moments.count / (moments.count - 1));
      running_var->lerp_(unbiased.to(running_var->scalar_type()), momentum);
    }
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["count"] = moments.count;
    ctx->save_for_backward({input, weight.value_or(at::Tensor()), mean, var});
    // "Evaluation" with the joint moments is torch's own kernel for the normalisation itself.
    auto y = std::get<0>(at::native_batch_norm(x, weight, bias, mean, var, /*training=*/false, 0.0, eps));
    return y.to(input.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto call = c10::static_intrusive_pointer_cast<GroupCall>(ctx->saved_data["call"].toCapsule());
    auto saved = ctx->get_saved_variables();
    if (fused::serves(saved[0])) return fused::backward(ctx, *call, grads[0]);
    const auto &input = saved[0], &weight = saved[1], &mean = saved[2], &var = saved[3];
    const double eps = ctx->saved_data["eps"].toDouble();
    const double count = ctx->saved_data["count"].toDouble();
    const auto format = input.suggest_memory_format();
    auto x = full_precision(input).contiguous(format);
    auto dy = full_precision(grads[0]).contiguous(format);
    // sum of dy * xhat and of dy over this rank's batch.
    auto [unused, dot, sum] = at::native_batch_norm_backward(dy, x, weight, mean, var, {}, {}, /*train=*/false, eps,
                                                             {false, true, true});
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) {
      auto joint = at::cat({dot.to(at::kDouble), sum.to(at::kDouble)});
      all_reduce_sum_(*call, joint);
      joint.div_(count);
      auto mean_dot = joint.narrow(0, 0, dot.numel()), mean_dy = joint.narrow(0, dot.numel(), dot.numel());
      auto invstd = (var.to(at::kDouble) + eps).rsqrt();
      auto scale = weight.defined() ? invstd * weight.to(at::kDouble) : invstd;
      // dx = scale * (dy - mean_dy - xhat * mean_dot), with xhat = (x - mean) * invstd
      auto slope = -scale * invstd * mean_dot;
      auto offset = -scale * mean_dy - slope * mean.to(at::kDouble);
      const auto type = x.scalar_type();
      dx = dy * per_channel(scale.to(type), x);
      dx.addcmul_(x, per_channel(slope.to(type), x)).add_(per_channel(offset.to(type), x));
      dx = dx.to(input.scalar_type());
    }
    at::Tensor dweight, dbias;
    if (weight.defined()) dweight = dot.to(weight.scalar_type());
    if (ctx->saved_data["has_bias"].toBool()) dbias = sum.to(weight.defined() ? weight.scalar_type() : x.scalar_type());
    at::Tensor none;
    return {dx, dweight, dbias, none, none, none, none, none};
  }
};

std::optional<at::Tensor> or_none(TensorPtr t) { return t ? std::make_optional(*t) : std::nullopt; }
}  // namespace

extern "C" {
int tchd_sync_batch_norm(void* g, int64_t timeout_ms, TensorPtr x, TensorPtr weight, TensorPtr bias,
                         TensorPtr running_mean, TensorPtr running_var, double momentum, double eps, TensorPtr* out) {
  return guarded([&] {
    TORCH_CHECK(x->dim() >= 2, "batch normalisation needs an input of shape [N, C, ...], not of ", x->dim(),
                " dimensions");
    auto call = c10::make_intrusive<GroupCall>(*static_cast<GroupRef*>(g), timeout_ms);
    *out = new at::Tensor(SyncBatchNorm::apply(*x, or_none(weight), or_none(bias), or_none(running_mean),
                                               or_none(running_var), momentum, eps, std::move(call)));
  });
}
}
