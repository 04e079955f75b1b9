// System calls that are made over and over from the same instruction: a kernel may do them in
// another way after a while, and nothing but the time they take may change.
#include <asm/prctl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/guest/guest_test.h"

namespace {

constexpr int kOften = 3000;
constexpr size_t kPage = 4096;

// The C library's own, whose text is a private mapping of a file.
const unsigned char* text_of(const char* name) {
  void* address = dlsym(RTLD_DEFAULT, name);
  REQUIRE(address != nullptr);
  return static_cast<const unsigned char*>(address);
}

char* page_of(const unsigned char* address) {
  return reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(address) & ~(kPage - 1));
}

void call_often() {
  const pid_t parent = getppid();
  for (int i = 0; i < kOften; i++) REQUIRE(getppid() == parent);
}

}  // namespace

CASE(results_and_errors_stay_right) {
  const pid_t pid = static_cast<pid_t>(syscall(SYS_getpid));
  const int fd = open("file", O_RDWR | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  for (int i = 0; i < kOften; i++) {
    char byte = static_cast<char>(i);
    REQUIRE(syscall(SYS_getpid) == pid);
    REQUIRE(write(fd, &byte, 1) == 1);
    REQUIRE(lseek(fd, -1, SEEK_CUR) == i);
    char seen = 0;
    REQUIRE(read(fd, &seen, 1) == 1);
    REQUIRE(seen == byte);
    REQUIRE(read(-1, &seen, 1) == -1 && errno == EBADF);
    REQUIRE(close(-1) == -1 && errno == EBADF);
  }
}

CASE(six_arguments_arrive) {
  for (int i = 0; i < 200; i++) {
    auto* memory = static_cast<char*>(reinterpret_cast<void*>(syscall(
        SYS_mmap, nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    REQUIRE(memory != MAP_FAILED);
    memory[i] = 1;
    REQUIRE(syscall(SYS_mmap, memory, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                    0) == reinterpret_cast<long>(memory));
    REQUIRE(memory[i] == 0);
    REQUIRE(munmap(memory, kPage) == 0);
  }
}

CASE(registers_and_flags_are_kept) {
  call_often();
  // Not from a C library: whatever is done to its calls, these are made as well.
  for (int i = 0; i < 500; i++) {
    uint64_t rbx = 1, r12 = 2, r13 = 3, r14 = 4, r15 = 5, result = 0, flags = 0;
    asm volatile(
        "std\n stc\n"
        "mov $110, %%eax\n syscall\n"
        "pushfq\n popq %[flags]\n cld\n"
        : "=&a"(result), [flags] "=&D"(flags), "+b"(rbx), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)
        :
        : "rcx", "r11", "rsi", "rdx", "r8", "r9", "r10", "memory", "cc");
    REQUIRE(static_cast<pid_t>(result) == getppid());
    REQUIRE((flags & 0x401) == 0x401);
    REQUIRE(rbx == 1 && r12 == 2 && r13 == 3 && r14 == 4 && r15 == 5);
  }
}

namespace {

std::atomic<int> ticks{0};
volatile double sum = 1;

void on_tick(int, siginfo_t*, void*) {
  ticks++;
  // Other calls, other vector registers, in the middle of anything.
  sum = sum * 1.5 / 1.25;
  getppid();
  char byte;
  (void)!read(-1, &byte, 1);
}

}  // namespace

CASE(signals_strike_anywhere) {
  struct sigaction action = {};
  action.sa_sigaction = on_tick;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  REQUIRE(sigaction(SIGALRM, &action, nullptr) == 0);
  const itimerval often{{0, 200}, {0, 200}};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  const pid_t parent = getppid();
  double kept = 1;
  for (int i = 0; i < 2000000 && ticks.load() < 100; i++) {
    REQUIRE(getppid() == parent);
    REQUIRE(syscall(SYS_getppid) == parent);
    kept += 0.5;
    REQUIRE(kept == 1 + 0.5 * (i + 1));
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  CHECK(ticks.load() > 0);
}

CASE(children_and_threads_go_on) {
  call_often();
  for (int i = 0; i < 10; i++) {
    const pid_t self = getpid();
    const pid_t child = fork();
    if (child == 0) {
      bool right = true;
      for (int j = 0; j < 300; j++) {
        right = right && getppid() == self && syscall(SYS_getppid) == self;
        right = right && umask(022) != static_cast<mode_t>(-1);
      }
      _exit(right ? 7 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    call_often();
  }
  pthread_t threads[4];
  for (pthread_t& thread : threads) {
    REQUIRE(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                  const pid_t parent = getppid();
                  for (int i = 0; i < kOften; i++) {
                    if (getppid() != parent || getuid() != geteuid()) return &ticks;
                  }
                  return nullptr;
                },
                nullptr) == 0);
  }
  for (const pthread_t thread : threads) {
    void* result = nullptr;
    REQUIRE(pthread_join(thread, &result) == 0);
    CHECK(result == nullptr);
  }
}

CASE(memory_files_show_the_text_of_the_file) {
  call_often();
  const unsigned char* text = text_of("getppid");
  Dl_info info;
  REQUIRE(dladdr(text, &info) != 0);
  unsigned char in_memory[16] = {};
  const int memory = open("/proc/self/mem", O_RDONLY);
  REQUIRE(memory >= 0);
  REQUIRE(pread(memory, in_memory, sizeof in_memory,
                static_cast<off_t>(reinterpret_cast<uintptr_t>(text))) == sizeof in_memory);
  // mov $SYS_getppid,%eax; syscall: what getppid(2) of the C library has always been here.
  const unsigned char expected[] = {0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05};
  if (memcmp(text, expected, 1) != 0 && text[0] != 0xe9) guest::skip("another getppid");
  CHECK(memcmp(in_memory, expected, sizeof expected) == 0);
  // write(2) reads memory, too.
  const int file = open("copy", O_RDWR | O_CREAT, 0600);
  REQUIRE(write(file, text, 16) == 16);
  REQUIRE(pread(file, in_memory, 16, 0) == 16);
  CHECK(memcmp(in_memory, expected, sizeof expected) == 0);
}

CASE(text_that_becomes_writable_is_that_of_the_file) {
  call_often();
  const unsigned char* text = text_of("getppid");
  char* page = page_of(text);
  REQUIRE(mprotect(page, kPage, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
  CHECK_EQ(text[0], 0xb8);
  call_often();
  CHECK_EQ(text[0], 0xb8);
  // A program that rewrites its text: getppid returns at once.
  const_cast<unsigned char*>(text)[5] = 0xc3;
  const_cast<unsigned char*>(text)[6] = 0xc3;
  CHECK_EQ(getppid(), SYS_getppid);
  REQUIRE(mprotect(page, kPage, PROT_READ | PROT_EXEC) == 0);
  for (int i = 0; i < 100; i++) REQUIRE(getppid() == SYS_getppid);
}

CASE(gs_is_the_programs) {
  unsigned long base = 1;
  REQUIRE(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
  CHECK_EQ(base, 0UL);
  call_often();
  REQUIRE(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
  CHECK_EQ(base, 0UL);
  static unsigned long words[16] = {11, 22, 33};
  REQUIRE(syscall(SYS_arch_prctl, ARCH_SET_GS, words) == 0);
  for (int i = 0; i < 5; i++) {
    call_often();
    unsigned long seen;
    asm volatile("mov %%gs:8, %0" : "=r"(seen));
    REQUIRE(seen == 22);
  }
  CHECK_EQ(words[0], 11UL);
  REQUIRE(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
  CHECK_EQ(base, reinterpret_cast<unsigned long>(words));
  REQUIRE(syscall(SYS_arch_prctl, ARCH_SET_GS, 0) == 0);
  call_often();
}
