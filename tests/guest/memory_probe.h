// Touches memory that may not be there and says what happened instead of dying.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

namespace guest {

constexpr size_t kPage = 4096;

// The fault that the last probe ran into.
struct Fault {
  int signo = 0;
  int code = 0;
  void* address = nullptr;
};

namespace detail {
inline sigjmp_buf probe_return;
inline Fault probe_fault;

inline void on_probe_fault(int signo, siginfo_t* info, void*) {
  probe_fault = {signo, info->si_code, info->si_addr};
  siglongjmp(probe_return, 1);
}

template <class Touch>
bool probe(Touch touch) {
  struct sigaction action = {}, old_segv, old_bus;
  action.sa_sigaction = on_probe_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  probe_fault = {};
  bool touched = false;
  if (sigsetjmp(probe_return, 1) == 0) {
    touch();
    touched = true;
  }
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  return touched;
}
}  // namespace detail

inline const Fault& last_fault() { return detail::probe_fault; }

inline bool probe_read(const void* address) {
  return detail::probe([address] { (void)*static_cast<const volatile char*>(address); });
}

inline bool probe_write(void* address) {
  return detail::probe([address] {
    auto* byte = static_cast<volatile char*>(address);
    *byte = *byte;
  });
}

// A store without a load before it, so that the access the kernel reports is the write.
inline bool probe_store(void* address) {
  return detail::probe([address] { *static_cast<volatile char*>(address) = 1; });
}

inline bool probe_execute(void* address) {
  return detail::probe([address] { reinterpret_cast<void (*)()>(address)(); });
}

}  // namespace guest
