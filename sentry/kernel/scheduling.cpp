#include "sentry/kernel/scheduling.h"

#include <unistd.h>

namespace boxrun::kernel {

// Not sysconf, which opens files.
std::vector<unsigned> sandbox_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(::getpid(), sizeof set, &set) != 0) CPU_SET(0, &set);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace boxrun::kernel
