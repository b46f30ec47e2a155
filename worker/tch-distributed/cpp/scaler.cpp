// The arithmetic of gradient scaling, by libtorch's own kernels: the same ones on every device.
#include "shim.h"

#include <algorithm>

extern "C" {
// Multiplies `grads` in place by `inv_scale` and sets `found_inf` (both one f32 value, on the gradients'
// device) to 1 where a value is not finite. One launch per device and type, as the kernel wants it.
int tchd_unscale(TensorPtr* grads, size_t n, TensorPtr inv_scale, TensorPtr found_inf) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<std::vector<at::Tensor>> lists;
    for (size_t i = 0; i < n; i++) {
      const auto& grad = *grads[i];
      TORCH_CHECK(grad.device() == found_inf->device(), "a gradient on ", grad.device(),
                  " cannot be unscaled by a scaler on ", found_inf->device());
      auto same = [&](const auto& list) { return list[0].scalar_type() == grad.scalar_type(); };
      auto at = std::find_if(lists.begin(), lists.end(), same);
      if (at == lists.end()) at = lists.insert(at, std::vector<at::Tensor>());
      at->push_back(grad);
    }
    for (const auto& list : lists) at::_amp_foreach_non_finite_check_and_unscale_(list, *found_inf, *inv_scale);
  });
}

// Grows or backs off `scale` (f32), and counts good steps in `growth_tracker` (i32), both in place.
int tchd_update_scale(TensorPtr scale, TensorPtr growth_tracker, TensorPtr found_inf, double growth_factor,
                      double backoff_factor, int64_t growth_interval) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_amp_update_scale_(*scale, *growth_tracker, *found_inf, growth_factor, backoff_factor, growth_interval);
  });
}
}
