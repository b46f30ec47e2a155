// Data-parallel gradients by libtorch's own c10d::Reducer.
#include "shim.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace {
// c10d's reducer replaces its bucket layout after the first synchronised backward pass by one made from
// the order in which gradients arrived. Sums then depend on how long the process has lived, which breaks
// bit-exact resume. This reducer is told that the exchange has already happened: the layout it is given
// is the layout of every step.
class FixedReducer : public c10d::Reducer {
 public:
  FixedReducer(std::vector<at::Tensor> params, std::vector<std::vector<size_t>> buckets, const GroupRef& group,
               int64_t bucket_bytes, bool find_unused)
      : c10d::Reducer(params, std::move(buckets), group, std::vector<bool>(params.size(), false), bucket_bytes,
                      find_unused, /*gradient_as_bucket_view=*/false, /*param_names=*/{}, bucket_bytes,
                      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
                      /*bucket_bytes_cap_list=*/{}) {
    has_rebuilt_bucket_ = true;
  }
  // Fails in words where a parameter got no gradient, at once rather than in the next step.
  void require_finished() { ensure_prior_reduction_finished(); }
};

std::unique_ptr<FixedReducer>& reducer(void* p) { return *static_cast<std::unique_ptr<FixedReducer>*>(p); }
}  // namespace

extern "C" {
// `bucket_of` lists the parameter indices of all buckets one after another; `bucket_len` their lengths.
int tchd_reducer_new(void* g, TensorPtr* params, size_t n, const size_t* bucket_of, const size_t* bucket_len,
                     size_t n_buckets, int64_t bucket_bytes, bool find_unused, bool verify, void** out) {
  return guarded([&] {
    auto& group = *static_cast<GroupRef*>(g);
    auto list = to_vector(params, n);
    if (verify) c10d::verify_params_across_processes(group, list, std::nullopt);
    std::vector<std::vector<size_t>> buckets;
    for (size_t b = 0; b < n_buckets; b++) {
      buckets.emplace_back(bucket_of, bucket_of + bucket_len[b]);
      bucket_of += bucket_len[b];
    }
    auto r = std::make_unique<FixedReducer>(list, std::move(buckets), group, bucket_bytes, find_unused);
    *out = new std::unique_ptr<FixedReducer>(std::move(r));
  });
}

void tchd_reducer_free(void* r) {
  (void)guarded([&] {
    // The hooks hang on the parameters and point to the reducer.
    reducer(r)->remove_autograd_hooks();
    delete static_cast<std::unique_ptr<FixedReducer>*>(r);
  });
}

// Backward from `loss`; with `reduce`, gradients (what has been accumulated before included) end as
// their mean over ranks, each bucket on its way while later gradients are still being computed.
int tchd_reducer_backward(void* r, TensorPtr loss, bool find_unused, bool reduce) {
  return guarded([&] {
    if (reduce) {
      reducer(r)->prepare_for_forward();
      reducer(r)->prepare_for_backward(find_unused ? std::vector<at::Tensor>{*loss} : std::vector<at::Tensor>{});
    }
    torch::autograd::backward({*loss});
    if (reduce) reducer(r)->require_finished();
  });
}

// Bytes per bucket, in the order of reduction.
int tchd_reducer_buckets(void* r, void* user, void (*sink)(void* user, int64_t bytes)) {
  return guarded([&] {
    for (auto& b : reducer(r)->get_grad_buckets(true)) sink(user, static_cast<int64_t>(b.getBuffer().nbytes()));
  });
}
}
