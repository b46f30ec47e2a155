// Loads the shared object of ./nccl and calls into it.
#include "shim.h"

#include <dlfcn.h>

namespace {
using Attach = int(void* group, void* store, const char* name, int device, int64_t timeout_ms, bool high_priority);
Attach* attach = nullptr;

template <class F>
F* entry(void* object, const char* path, const char* name) {
  auto* f = reinterpret_cast<F*>(dlsym(object, name));
  if (!f) throw std::runtime_error(std::string(path) + " is not of this program's build: it lacks " + name);
  return f;
}
}  // namespace

extern "C" {
// At once, and with every symbol: a missing library shows here and not within a collective.
int tchd_nccl_load(const char* path) {
  return guarded([&] {
    void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
      const char* why = dlerror();
      throw std::runtime_error(std::string("cannot load NCCL's part: ") + (why ? why : "no reason given"));
    }
    const int found = entry<int()>(object, path, "tchd_nccl_interface")();
    TORCH_CHECK(found == 1, path, " is of another build than this program: interface ", found, " and not 1");
    entry<void(int (*)(Status, const char*))>(object, path, "tchd_nccl_start")(&remember_error);
    attach = entry<Attach>(object, path, "tchd_nccl_attach");
  });
}

int tchd_group_add_nccl(void* group, void* store, const char* name, int device, int64_t timeout_ms,
                        bool high_priority) {
  if (!attach) return remember_error(kTorch, "NCCL's part is not loaded");
  return attach(group, store, name, device, timeout_ms, high_priority);
}
}
