#pragma once

namespace boxrun {

// Prints "file:line: CHECK failed: text" to stderr and aborts. Allocates nothing, takes no lock.
[[noreturn]] void check_failed(const char* file, int line, const char* text);

}  // namespace boxrun

// For broken invariants of our own code, compiled into every build. Never on anything that the
// guest, a stub or a 9P peer controls.
#define CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::boxrun::check_failed(__FILE__, __LINE__, #condition))

// The same, only in debug builds: for checks on hot paths.
#ifdef BOXRUN_DEBUG
#define DCHECK(condition) CHECK(condition)
#else
#define DCHECK(condition) (true ? void() : void(condition))
#endif
