// TCPStore: the key-value store of a rendezvous.
#include "shim.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {
thread_local std::string last_error;
StoreRef& store(void* p) { return *static_cast<StoreRef*>(p); }
}  // namespace

int remember_error(Status status, const char* message) {
  last_error = message ? message : "";
  return status;
}

extern "C" {
const char* tchd_last_error() { return last_error.c_str(); }

// The server does not wait for the clients: with port 0 they cannot know yet where to connect.
int tchd_store_tcp(const char* host, uint16_t port, size_t world_size, bool is_server, int64_t timeout_ms,
                   void** out, uint16_t* bound_port) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    options.numWorkers = world_size;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    auto s = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    *bound_port = s->getPort();
    *out = new StoreRef(std::move(s));
  });
}

int tchd_store_set(void* s, const char* key, const uint8_t* value, size_t n) {
  return guarded([&] { store(s)->set(key, std::vector<uint8_t>(value, value + n)); });
}

// `sink` receives the value once, before this function returns.
int tchd_store_get(void* s, const char* key, int64_t timeout_ms, void* user,
                   void (*sink)(void* user, const uint8_t* value, size_t n)) {
  return guarded([&] {
    if (timeout_ms > 0) store(s)->wait({key}, std::chrono::milliseconds(timeout_ms));
    auto v = store(s)->get(key);
    sink(user, v.data(), v.size());
  });
}

int tchd_store_add(void* s, const char* key, int64_t amount, int64_t* sum) {
  return guarded([&] { *sum = store(s)->add(key, amount); });
}

void tchd_store_free(void* s) {
  (void)guarded([&] { delete static_cast<StoreRef*>(s); });
}
}
