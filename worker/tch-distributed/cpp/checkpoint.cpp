// Activation checkpointing over a closure of the caller.
//
// The segment runs twice: once forward, where its graph is walked for the parameters the closure has
// captured and then thrown away, and again in the backward pass. The captured parameters become inputs
// of the segment's node in the outer graph, so that the engine adds up their gradients and delivers each
// exactly once per backward pass, as without checkpointing. A DDP reducer therefore sees one gradient
// per parameter however many segments share it, and backward with explicit inputs reaches them.
#include "shim.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/SequenceNumber.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <optional>
#include <unordered_set>

using torch::autograd::AutogradContext;
using torch::autograd::Node;
using torch::autograd::variable_list;

namespace {
at::Tensor generator_state(at::Device device) {
  auto generator = at::globalContext().defaultGenerator(device);
  std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(at::Device device, const at::Tensor& state) {
  auto generator = at::globalContext().defaultGenerator(device);
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

// The default generators a segment may draw from: the CPU's and that of its inputs' device.
struct Generators {
  std::optional<at::Device> device;
  at::Tensor cpu, other;
  static Generators now(std::optional<at::Device> device) {
    return {device, generator_state(at::kCPU), device ? generator_state(*device) : at::Tensor()};
  }
  void restore() const {
    set_generator_state(at::kCPU, cpu);
    if (device) set_generator_state(*device, other);
  }
};

struct Autocast {
  struct One {
    at::DeviceType device;
    bool enabled;
    at::ScalarType type;
  };
  One cpu, cuda;
  bool cache;
  static One one(at::DeviceType d) {
    return {d, at::autocast::is_autocast_enabled(d), at::autocast::get_autocast_dtype(d)};
  }
  static Autocast now() { return {one(at::kCPU), one(at::kCUDA), at::autocast::is_autocast_cache_enabled()}; }
  void restore() const {
    for (const auto& o : {cpu, cuda}) {
      at::autocast::set_autocast_enabled(o.device, o.enabled);
      at::autocast::set_autocast_dtype(o.device, o.type);
    }
    at::autocast::set_autocast_cache_enabled(cache);
  }
};

template <class State>
struct RestoreAtExit {
  State state;
  ~RestoreAtExit() { state.restore(); }
};

using Run = bool (*)(void* closure, bool recompute, TensorPtr* in, size_t n, void* outputs, void* message);
using Drop = void (*)(void* closure);

struct Segment : torch::CustomClassHolder {
  Run run;
  Drop drop;
  void* closure;
  bool preserve_rng;
  size_t n_inputs = 0;
  std::optional<Generators> generators;
  Autocast autocast = Autocast::now();
  variable_list first_outputs;  // only between the first run and the making of the node

  Segment(Run r, Drop d, void* c, bool p) : run(r), drop(d), closure(c), preserve_rng(p) {}
  ~Segment() override { drop(closure); }

  variable_list call(bool recompute, variable_list inputs) const {
    // A cached cast made inside a segment would tie it to graphs of others.
    at::autocast::set_autocast_cache_enabled(false);
    std::vector<TensorPtr> in;
    for (auto& t : inputs) in.push_back(&t);
    variable_list outputs;
    std::string message;
    if (!run(closure, recompute, in.data(), in.size(), &outputs, &message)) throw std::runtime_error(message);
    return outputs;
  }
};

// Copies that start a graph of their own.
variable_list detached(const variable_list& inputs) {
  variable_list copies;
  for (const auto& t : inputs) {
    auto copy = t.detach();
    if (t.requires_grad()) copy.set_requires_grad(true);
    copies.push_back(std::move(copy));
  }
  return copies;
}

// Leaves other than `inputs` that `outputs` depend on, in the order of a depth-first walk.
variable_list captured_leaves(const variable_list& outputs, const variable_list& inputs, uint64_t first_sequence_nr) {
  std::unordered_set<const at::TensorImpl*> own;
  for (const auto& t : inputs) own.insert(t.unsafeGetTensorImpl());
  std::unordered_set<const Node*> seen;
  std::vector<Node*> stack;
  variable_list leaves;
  for (const auto& t : outputs) {
    if (t.requires_grad()) stack.push_back(torch::autograd::impl::gradient_edge(t).function.get());
  }
  while (!stack.empty()) {
    auto* node = stack.back();
    stack.pop_back();
    if (!node || !seen.insert(node).second) continue;
    if (auto* accumulate = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      if (!own.count(accumulate->variable.unsafeGetTensorImpl())) leaves.push_back(accumulate->variable);
      continue;
    }
    TORCH_CHECK(node->sequence_nr() >= first_sequence_nr,
                "a checkpointed closure captured a tensor computed outside of it (by ", node->name(),
                "); pass such tensors as inputs of the checkpoint, only leaves may be captured");
    for (const auto& edge : node->next_edges()) stack.push_back(edge.function.get());
  }
  return leaves;
}

struct CheckpointNode : torch::autograd::Function<CheckpointNode> {
  // `variables`: the inputs, then the captured leaves.
  static variable_list forward(AutogradContext* ctx, c10::intrusive_ptr<Segment> segment, at::TensorList variables) {
    variable_list outputs, constant;
    for (const auto& t : segment->first_outputs) {
      outputs.push_back(t.detach());
      if (!t.requires_grad()) constant.push_back(outputs.back());
    }
    segment->first_outputs.clear();
    ctx->mark_non_differentiable(constant);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward(variables.vec());
    ctx->saved_data["segment"] = capsule(segment);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto segment = c10::static_intrusive_pointer_cast<Segment>(ctx->saved_data["segment"].toCapsule());
    auto saved = ctx->get_saved_variables();
    auto inputs = detached({saved.begin(), saved.begin() + static_cast<int64_t>(segment->n_inputs)});

    variable_list outputs;
    {
      at::AutoGradMode grad_on(true);
      RestoreAtExit<Autocast> autocast{Autocast::now()};
      segment->autocast.restore();
      if (segment->preserve_rng) {
        RestoreAtExit<Generators> generators{Generators::now(segment->generators->device)};
        segment->generators->restore();
        outputs = segment->call(true, inputs);
      } else {
        outputs = segment->call(true, inputs);
      }
    }
    TORCH_CHECK(outputs.size() == grads.size(), "a checkpointed closure returned ", grads.size(),
                " tensors at first and ", outputs.size(), " when run again");

    variable_list roots, root_grads, wanted;
    for (size_t i = 0; i < outputs.size(); i++) {
      if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      root_grads.push_back(grads[i]);
    }
    std::vector<size_t> place;
    for (size_t i = 0; i < saved.size(); i++) {
      const auto& t = i < segment->n_inputs ? inputs[i] : saved[i];
      if (!t.requires_grad()) continue;
      wanted.push_back(t);
      place.push_back(i + 1);  // 0 is the segment itself
    }
    variable_list result(saved.size() + 1);
    if (roots.empty() || wanted.empty()) return result;
    auto found = torch::autograd::grad(roots, wanted, root_grads, /*retain_graph=*/std::nullopt,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < found.size(); i++) result[place[i]] = found[i];
    return result;
  }
};

variable_list checkpoint(c10::intrusive_ptr<Segment> segment, const variable_list& inputs) {
  RestoreAtExit<Autocast> autocast{segment->autocast};
  if (!at::GradMode::is_enabled()) return segment->call(false, inputs);
  segment->n_inputs = inputs.size();
  if (segment->preserve_rng) {
    std::optional<at::Device> device;
    for (const auto& t : inputs) {
      if (t.defined() && !t.device().is_cpu()) device = t.device();
    }
    segment->generators = Generators::now(device);
  }
  auto copies = detached(inputs);
  const auto first = at::sequence_number::peek();
  segment->first_outputs = segment->call(false, copies);
  auto variables = inputs;
  for (auto& leaf : captured_leaves(segment->first_outputs, copies, first)) variables.push_back(leaf);
  return CheckpointNode::apply(segment, at::TensorList(variables));
}
}  // namespace

extern "C" {
void tchd_push_tensor(void* list, TensorPtr t) { static_cast<variable_list*>(list)->push_back(*t); }

void tchd_set_message(void* message, const char* text, size_t n) {
  static_cast<std::string*>(message)->assign(text, n);
}

// Takes ownership of `closure` in every case.
int tchd_checkpoint(Run run, Drop drop, void* closure, bool preserve_rng, TensorPtr* in, size_t n, void* user,
                    void (*sink)(void* user, TensorPtr output)) {
  auto segment = c10::make_intrusive<Segment>(run, drop, closure, preserve_rng);
  return guarded([&] {
    for (auto& t : checkpoint(segment, to_vector(in, n))) sink(user, new at::Tensor(std::move(t)));
  });
}

int tchd_rng_state(int device_type, int index, TensorPtr* out) {
  return guarded([&] {
    at::Device device(static_cast<at::DeviceType>(device_type), static_cast<c10::DeviceIndex>(index));
    *out = new at::Tensor(generator_state(device));
  });
}

int tchd_rng_set_state(int device_type, int index, TensorPtr state) {
  return guarded([&] {
    at::Device device(static_cast<at::DeviceType>(device_type), static_cast<c10::DeviceIndex>(index));
    set_generator_state(device, *state);
  });
}

int tchd_rng_seed(int device_type, int index, uint64_t seed) {
  return guarded([&] {
    at::Device device(static_cast<at::DeviceType>(device_type), static_cast<c10::DeviceIndex>(index));
    auto generator = at::globalContext().defaultGenerator(device);
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}
}
