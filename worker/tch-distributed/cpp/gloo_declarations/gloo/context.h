// The libtorch wheels carry gloo inside libtorch_cpu.so but not its headers. torch's own headers only
// hold pointers to gloo's types, so declarations are enough to compile against them; the code and the
// symbols are libtorch's. These files declare the least that torch's headers name.
#pragma once
#include <chrono>
#include <memory>
namespace gloo {
class Context {
 public:
  Context() = delete;
  void setTimeout(std::chrono::milliseconds);
};
}  // namespace gloo
