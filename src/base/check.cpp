#include "src/base/check.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace boxrun {

void check_failed(const char* file, int line, const char* text) {
  char message[512];
  int n = snprintf(message, sizeof message, "boxrun: %s:%d: CHECK failed: %s\n", file, line, text);
  if (n > static_cast<int>(sizeof message) - 1) n = sizeof message - 1;
  if (n > 0) (void)!write(STDERR_FILENO, message, static_cast<size_t>(n));
  abort();
}

}  // namespace boxrun
