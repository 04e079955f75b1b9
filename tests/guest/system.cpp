// Facts about the system: uname, sysinfo, clocks, random numbers, devices, the calls that are not
// there.
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <termios.h>

#include <algorithm>
#include <vector>

#include "tests/guest/guest_test.h"

namespace {

// The CPUs of a set in the mask format of cpuset(7).
std::vector<int> cpus_of_mask(std::string text) {
  std::vector<int> cpus;
  CHECK(!text.empty() && text.back() == '\n');
  std::string digits;
  for (char c : text) {
    if (c != ',' && c != '\n') digits += c;
  }
  CHECK(digits.find_first_not_of("0123456789abcdef") == std::string::npos);
  for (size_t cpu = 0; cpu < digits.size() * 4; ++cpu) {
    std::string digit = digits.substr(digits.size() - 1 - cpu / 4, 1);
    if (strtoul(digit.c_str(), nullptr, 16) >> cpu % 4 & 1) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

// ... and in its list format.
std::vector<int> cpus_of_list(const std::string& text) {
  std::vector<int> cpus;
  for (const char* at = text.c_str(); *at != '\0' && *at != '\n';) {
    char* end = nullptr;
    int first = static_cast<int>(strtol(at, &end, 10)), last = first;
    REQUIRE(end != at);
    if (*end == '-') last = static_cast<int>(strtol(end + 1, &end, 10));
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    at = *end == ',' ? end + 1 : end;
  }
  return cpus;
}

}  // namespace

CASE(uname_fields) {
  utsname name = {};
  CHECK_OK(uname(&name));
  CHECK_EQ(std::string(name.sysname), "Linux");
  CHECK_EQ(std::string(name.machine), "x86_64");
  CHECK(atoi(name.release) >= 4);
  CHECK(strlen(name.nodename) > 0);
  char host[65] = {};
  CHECK_OK(gethostname(host, sizeof host));
  CHECK_EQ(std::string(host), std::string(name.nodename));
}

CASE(sets_of_cpus) {
  cpu_set_t mine;
  REQUIRE(sched_getaffinity(0, sizeof mine, &mine) == 0);
  const std::string system = "/sys/devices/system/";
  const auto text = [&](const std::string& file) {
    return guest::read_file((system + file).c_str());
  };
  std::vector<int> online = cpus_of_list(text("cpu/online"));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mine)) continue;
    CHECK(std::count(online.begin(), online.end(), cpu) == 1);
    std::string topology = "cpu/cpu" + std::to_string(cpu) + "/topology/";
    for (const char* name : {"thread_siblings", "core_siblings", "core_cpus", "package_cpus"}) {
      std::vector<int> set = cpus_of_mask(text(topology + name));
      CHECK(std::count(set.begin(), set.end(), cpu) == 1);
      CHECK(set == cpus_of_list(text(topology + name + "_list")));
    }
  }
  CHECK(cpus_of_mask(text("node/node0/cpumap")) == cpus_of_list(text("node/node0/cpulist")));
  CHECK_EQ(text("node/node0/cpumap").size(),
           text("cpu/cpu" + std::to_string(online[0]) + "/topology/thread_siblings").size());
}

CASE(sysinfo_is_plausible) {
  struct sysinfo info = {};
  CHECK_OK(sysinfo(&info));
  CHECK(info.uptime > 0);
  CHECK(info.totalram > 0 && info.mem_unit > 0);
  CHECK(info.freeram <= info.totalram);
  CHECK(info.procs > 0);
}

CASE(clocks_advance_and_agree) {
  int64_t last = 0;
  for (int i = 0; i < 10000; ++i) {
    int64_t now = guest::now_ns(CLOCK_MONOTONIC);
    REQUIRE(now >= last);
    last = now;
  }
  timespec by_call = {};
  CHECK_OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_call));
  int64_t kernel = by_call.tv_sec * 1000000000LL + by_call.tv_nsec;
  CHECK(kernel >= last);
  CHECK(guest::now_ns(CLOCK_MONOTONIC) >= kernel);
  timeval day = {};
  CHECK_OK(gettimeofday(&day, nullptr));
  CHECK(llabs(guest::now_ns(CLOCK_REALTIME) / 1000000000 - day.tv_sec) <= 1);
  CHECK(llabs(static_cast<long long>(time(nullptr)) - day.tv_sec) <= 1);
  timeval day_by_call = {};
  CHECK_OK(syscall(SYS_gettimeofday, &day_by_call, nullptr));
  CHECK(llabs(day_by_call.tv_sec - day.tv_sec) <= 1);
  CHECK(llabs(syscall(SYS_time, nullptr) - day.tv_sec) <= 1);
}

CASE(all_clocks_exist) {
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
                          CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                          CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI}) {
    timespec value = {}, resolution = {};
    CHECK_OK(clock_gettime(clock, &value));
    CHECK(value.tv_nsec >= 0 && value.tv_nsec < 1000000000);
    CHECK_OK(clock_getres(clock, &resolution));
    CHECK(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
  }
  timespec value = {};
  CHECK_ERRNO(clock_gettime(99, &value), EINVAL);
  CHECK_ERRNO(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8), EFAULT);
  CHECK_ERRNO(clock_settime(CLOCK_MONOTONIC, &value), EINVAL);
}

CASE(getrandom_fills) {
  unsigned char first[256] = {}, second[256] = {};
  CHECK_EQ(getrandom(first, sizeof first, 0), 256);
  CHECK_EQ(getrandom(second, sizeof second, GRND_NONBLOCK), 256);
  CHECK(memcmp(first, second, sizeof first) != 0);
  CHECK_EQ(getrandom(first, 0, 0), 0);
  CHECK_ERRNO(getrandom(first, 1, 0x100), EINVAL);
  CHECK_ERRNO(syscall(SYS_getrandom, 8, 1, 0), EFAULT);
}

CASE(dev_null) {
  int fd = CHECK_OK(open("/dev/null", O_RDWR));
  char byte = 'x';
  CHECK_EQ(read(fd, &byte, 1), 0);
  CHECK_EQ(write(fd, &byte, 1), 1);
  CHECK_EQ(lseek(fd, 100, SEEK_SET), 0);
  CHECK_ERRNO(ftruncate(fd, 0), EINVAL);
  struct stat info = {};
  CHECK_OK(fstat(fd, &info));
  CHECK_EQ(info.st_rdev, makedev(1, 3));
  CHECK_ERRNO(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
  CHECK_OK(open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0600));
}

CASE(dev_zero_and_full) {
  int zero = CHECK_OK(open("/dev/zero", O_RDWR));
  char buffer[100];
  memset(buffer, 'x', sizeof buffer);
  CHECK_EQ(read(zero, buffer, sizeof buffer), 100);
  for (char byte : buffer) REQUIRE(byte == 0);
  CHECK_EQ(write(zero, buffer, 50), 50);
  char* mapped =
      static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0));
  REQUIRE(mapped != MAP_FAILED);
  CHECK_EQ(mapped[17], 0);
  mapped[17] = 1;
  int full = CHECK_OK(open("/dev/full", O_RDWR));
  CHECK_ERRNO(write(full, "x", 1), ENOSPC);
  CHECK_EQ(read(full, buffer, 10), 10);
  CHECK_EQ(buffer[9], 0);
}

CASE(dev_random) {
  for (const char* name : {"/dev/urandom", "/dev/random"}) {
    int fd = CHECK_OK(open(name, O_RDONLY));
    uint64_t first[4] = {}, second[4] = {};
    CHECK_EQ(read(fd, first, sizeof first), sizeof first);
    CHECK_EQ(read(fd, second, sizeof second), sizeof second);
    CHECK(memcmp(first, second, sizeof first) != 0);
  }
}

CASE(not_a_terminal) {
  int null = open("/dev/null", O_RDWR);
  termios settings = {};
  CHECK_ERRNO(tcgetattr(null, &settings), ENOTTY);
  CHECK_EQ(isatty(null), 0);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK_ERRNO(tcgetattr(ends[0], &settings), ENOTTY);
  winsize size = {};
  int file = open("file", O_RDWR | O_CREAT, 0600);
  CHECK_ERRNO(ioctl(file, TIOCGWINSZ, &size), ENOTTY);
}

CASE(unknown_system_calls) {
  CHECK_ERRNO(syscall(2000), ENOSYS);
  CHECK_ERRNO(syscall(400), ENOSYS);  // in the gap before the numbers shared by all architectures
  CHECK_ERRNO(syscall(SYS_create_module), ENOSYS);
  CHECK_ERRNO(syscall(SYS_nfsservctl), ENOSYS);
}

CASE(system_call_numbers_are_32_bits) {
  // The kernel looks at eax only: 1 << 32 | SYS_getpid is getpid.
  CHECK_EQ(syscall(SYS_getpid | 1L << 32), getpid());
}

CASE(registers_after_a_system_call) {
  // rcx holds the return address and r11 the flags; all others are untouched.
  uint64_t rcx = 0, r11 = 0, next = 0;
  long rax = SYS_getpid;
  asm volatile("lea 1f(%%rip), %2\n syscall\n1: mov %%rcx, %1\n mov %%r11, %3"
               : "+a"(rax), "=&r"(rcx), "=&r"(next), "=&r"(r11)
               :
               : "rcx", "r11", "memory");
  CHECK_EQ(rax, getpid());
  CHECK(rcx == next);
  CHECK_EQ(r11 & 0x202, 0x202);
}

CASE(membarrier) {
  long commands = syscall(SYS_membarrier, 0, 0, 0);
  if (commands == -1) {
    CHECK_EQ(errno, ENOSYS);
    return;
  }
  CHECK_ERRNO(syscall(SYS_membarrier, 0x40000000, 0, 0), EINVAL);
}

CASE(rseq_is_registered_once) {
  // glibc registers each thread's area. Where the kernel has no rseq, every call says so.
  alignas(32) static char area[32];
  long result = syscall(SYS_rseq, area, 32, 0, 0x53053053);
  CHECK_EQ(result, -1);
  CHECK(errno == EINVAL || errno == EBUSY || errno == EPERM || errno == ENOSYS);
}

CASE(adjtimex_reads) {
  timex info = {};
  CHECK(adjtimex(&info) >= 0);
  CHECK_EQ(info.tick, 10000);
  CHECK(clock_adjtime(CLOCK_REALTIME, &info) >= 0);
  CHECK_ERRNO(clock_adjtime(CLOCK_MONOTONIC, &info), EOPNOTSUPP);
  CHECK_ERRNO(clock_adjtime(99, &info), EINVAL);
}
