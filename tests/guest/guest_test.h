// The small harness of the guest programs. A guest program is a list of named cases that assert
// what Linux does; the same binary runs natively and under boxrun, and status, output and file
// effects must be equal (tests/differential/run.py).
//
//   prog            runs every case, each in a forked child and a directory of its own, and prints
//   `case NAME ok|FAIL|skip` prog NAME       runs one case in this very process: no fork needed, a
//   debugger or --trace sees only that case prog --list     prints the names prog --role R   is how
//   a case executes itself again (see ROLE)
//
// Output goes straight to write(2), so that nothing is printed twice after fork, and holds no
// address, pid or time unless a check fails. The harness uses as few system calls as it can: it is
// what runs first on a kernel that is being brought up.
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <type_traits>
#include <utility>

namespace guest {

struct Case {
  Case(const char* case_name, void (*body)());
  const char* name;
  void (*run)();
  Case* next = nullptr;
};

// A role is a second main(): what a case executes to look at a fresh process from inside.
struct Role {
  Role(const char* role_name, int (*body)(int argc, char** argv));
  const char* name;
  int (*run)(int argc, char** argv);
  Role* next = nullptr;
};

// Absolute path of this program, for execve.
const char* self_path();

// Failures of this process so far; children report theirs by exiting with 1.
extern int failures;

// Prints "file:line: what" and counts the failure.
void fail(const char* file, int line, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
[[noreturn]] void skip(const char* reason);
void print(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What a wait status says, in words: "exited 3", "killed by SIGSEGV", "stopped by SIGTSTP",
// "continued".
std::string status_text(int status);
std::string errno_text(int error);
std::string signal_text(int signo);

int wait_for(pid_t pid);  // waitpid(pid) that survives EINTR; the raw status, or -1
bool has_capability(int capability);
void sleep_ms(int milliseconds);
int64_t now_ns(clockid_t clock);
// Waits until the thread (of process pid) sleeps in the kernel, so that a test can interrupt or
// wake it there.
void wait_until_blocked(pid_t pid, pid_t tid);
inline void wait_until_blocked(pid_t pid) { wait_until_blocked(pid, pid); }
std::string read_file(const char* path);  // "" where it cannot be read
bool write_file(const char* path, const std::string& content);

// Runs body in a forked child, which exits 1 if one of its checks failed, else 0.
template <class Body>
pid_t spawn(Body body) {
  pid_t pid = fork();
  if (pid == 0) {
    failures = 0;
    body();
    _exit(failures != 0 ? 1 : 0);
  }
  return pid;
}

template <class T>
std::string show(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<long long>(value));
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_convertible_v<T, std::string>) {
    return "\"" + std::string(value) + "\"";
  } else {
    char text[32];
    snprintf(text, sizeof text, "%p", reinterpret_cast<const void*>(value));
    return text;
  }
}

template <class A, class B>
bool equal(const A& a, const B& b) {
  if constexpr (std::is_same_v<A, bool> || std::is_same_v<B, bool>) {
    return static_cast<bool>(a) == static_cast<bool>(b);
  } else if constexpr (std::is_integral_v<A> && std::is_integral_v<B>) {
    return std::cmp_equal(+a, +b);  // promoted: char is no standard integer to cmp_equal
  } else {
    return a == b;
  }
}

template <class A, class B>
bool check_equal(const char* file, int line, const char* text, const A& got, const B& want) {
  if (equal(got, want)) return true;
  fail(file, line, "%s is %s, expected %s", text, show(got).c_str(), show(want).c_str());
  return false;
}

template <class T>
T check_ok(const char* file, int line, const char* text, T value) {
  if (equal(value, static_cast<T>(-1)))
    fail(file, line, "%s failed: %s", text, errno_text(errno).c_str());
  return value;
}
template <class T>
T* check_ok(const char* file, int line, const char* text, T* value) {
  if (value == reinterpret_cast<T*>(-1))
    fail(file, line, "%s failed: %s", text, errno_text(errno).c_str());
  return value;
}

// value is what a call returned that must have failed with this errno.
template <class T>
bool check_errno(const char* file, int line, const char* text, T value, int want) {
  int error = errno;
  if (value != (T)(-1)) {
    fail(file, line, "%s succeeded, expected %s", text, errno_text(want).c_str());
    return false;
  }
  if (error == want) return true;
  fail(file, line, "%s failed with %s, expected %s", text, errno_text(error).c_str(),
       errno_text(want).c_str());
  return false;
}

bool check_exit(const char* file, int line, pid_t pid, int code);
bool check_killed(const char* file, int line, pid_t pid, int signo);

}  // namespace guest

#define CASE(name)                                          \
  static void case_##name();                                \
  static guest::Case registered_##name{#name, case_##name}; \
  static void case_##name()

#define ROLE(name)                                               \
  static int role_##name(int argc, char** argv);                 \
  static guest::Role registered_role_##name{#name, role_##name}; \
  static int role_##name([[maybe_unused]] int argc, [[maybe_unused]] char** argv)

// CHECK(condition), CHECK_EQ(got, want): report and go on. REQUIRE ends the case: nothing after it
// makes sense.
#define CHECK(condition) \
  ((condition) ? true : (guest::fail(__FILE__, __LINE__, "%s is false", #condition), false))
#define CHECK_EQ(got, want) guest::check_equal(__FILE__, __LINE__, #got, (got), (want))
// The call must not return -1; its value is the value of the expression.
#define CHECK_OK(call) guest::check_ok(__FILE__, __LINE__, #call, (call))
// The call must return -1 with this errno.
#define CHECK_ERRNO(call, want) guest::check_errno(__FILE__, __LINE__, #call, (call), (want))
#define CHECK_EXIT(pid, code) guest::check_exit(__FILE__, __LINE__, (pid), (code))
#define CHECK_KILLED(pid, signo) guest::check_killed(__FILE__, __LINE__, (pid), (signo))
#define REQUIRE(condition)                                                   \
  do {                                                                       \
    if (!(condition)) {                                                      \
      guest::fail(__FILE__, __LINE__, "%s is false (required)", #condition); \
      _exit(1);                                                              \
    }                                                                        \
  } while (0)
