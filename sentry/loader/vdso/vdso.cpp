// The guest's vDSO (vdso(7)): runs in the guest, without libc, from pages that the Sentry maps into
// every process. Time comes from the TimePage just below this image; where that does not hold, the
// system call is made.
#include <linux/time_types.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "sentry/time/time_page.h"

// Placed one page below the image by vdso.lds.
extern "C" __attribute__((visibility("hidden"))) const boxrun::TimePage boxrun_time_page;

namespace {

constexpr int64_t kSecond = 1'000'000'000;

long system_call(long number, long a, long b, long c) {
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c)
               : "rcx", "r11", "memory");
  return result;
}

uint64_t read_tsc() {
  uint32_t low, high;
  asm volatile("lfence\n rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return static_cast<uint64_t>(high) << 32 | low;
}

// False when the page does not hold at the moment.
bool time_now(int64_t boxrun::TimePage::*base, int64_t& out) {
  const boxrun::TimePage& page = boxrun_time_page;
  for (;;) {
    const uint32_t sequence = __atomic_load_n(&page.sequence, __ATOMIC_ACQUIRE);
    if ((sequence & 1) != 0) continue;
    const uint32_t valid = __atomic_load_n(&page.valid, __ATOMIC_RELAXED);
    const uint64_t delta = read_tsc() - __atomic_load_n(&page.base_tsc, __ATOMIC_RELAXED);
    const uint64_t max_delta = __atomic_load_n(&page.max_delta, __ATOMIC_RELAXED);
    const uint64_t rate = __atomic_load_n(&page.ns_per_tick_32, __ATOMIC_RELAXED);
    const int64_t start = __atomic_load_n(&(page.*base), __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&page.sequence, __ATOMIC_RELAXED) != sequence) continue;
    if (valid == 0 || delta > max_delta) return false;
    out = start + static_cast<int64_t>(static_cast<unsigned __int128>(delta) * rate >> 32);
    return true;
  }
}

bool clock_now(clockid_t id, int64_t& out) {
  switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
      return time_now(&boxrun::TimePage::realtime, out);
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
      return time_now(&boxrun::TimePage::monotonic, out);
    case CLOCK_BOOTTIME:
      return time_now(&boxrun::TimePage::boottime, out);
    default:
      return false;
  }
}

}  // namespace

extern "C" {

int __vdso_clock_gettime(clockid_t id, timespec* out) {
  int64_t now;
  if (!clock_now(id, now)) {
    return static_cast<int>(system_call(SYS_clock_gettime, id, reinterpret_cast<long>(out), 0));
  }
  out->tv_sec = now / kSecond;
  out->tv_nsec = now % kSecond;
  return 0;
}

int __vdso_gettimeofday(timeval* out, void* zone) {
  int64_t now;
  if (zone != nullptr || !time_now(&boxrun::TimePage::realtime, now)) {
    return static_cast<int>(system_call(SYS_gettimeofday, reinterpret_cast<long>(out),
                                        reinterpret_cast<long>(zone), 0));
  }
  if (out != nullptr) {
    out->tv_sec = now / kSecond;
    out->tv_usec = now % kSecond / 1000;
  }
  return 0;
}

time_t __vdso_time(time_t* out) {
  int64_t now;
  if (!time_now(&boxrun::TimePage::realtime, now)) {
    return system_call(SYS_time, reinterpret_cast<long>(out), 0, 0);
  }
  const time_t seconds = now / kSecond;
  if (out != nullptr) *out = seconds;
  return seconds;
}

int __vdso_clock_getres(clockid_t id, timespec* out) {
  return static_cast<int>(system_call(SYS_clock_getres, id, reinterpret_cast<long>(out), 0));
}

// Linux keeps the CPU and node number in the limit of a segment that user mode may ask for
// (arch/x86/include/asm/segment.h: __CPUNODE_SEG).
long __vdso_getcpu(unsigned* cpu, unsigned* node, void*) {
  uint32_t limit = 0;
  bool known;
  asm("lsl %[selector], %[limit]" : [limit] "=r"(limit), "=@ccz"(known) : [selector] "r"(0x7b));
  if (!known) {
    return system_call(SYS_getcpu, reinterpret_cast<long>(cpu), reinterpret_cast<long>(node), 0);
  }
  if (cpu != nullptr) *cpu = limit & 0xfff;
  if (node != nullptr) *node = limit >> 12;
  return 0;
}

int clock_gettime(clockid_t, timespec*) __attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(timeval*, void*) __attribute__((weak, alias("__vdso_gettimeofday")));
time_t time(time_t*) __attribute__((weak, alias("__vdso_time")));
int clock_getres(clockid_t, timespec*) __attribute__((weak, alias("__vdso_clock_getres")));

}  // extern "C"
