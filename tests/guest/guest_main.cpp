#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/guest/guest_test.h"

namespace guest {

namespace {
constexpr int kSkipStatus = 77;  // Automake's and CTest's number for "not applicable here"

Case* first_case = nullptr;
Role* first_role = nullptr;
char self[4096];

const char* base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

void remember_self(const char* argv0) {
  if (argv0[0] == '/') {
    snprintf(self, sizeof self, "%s", argv0);
    return;
  }
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  self[length > 0 ? length : 0] = '\0';
}

// A directory per case; on a kernel that has no mkdir yet the case simply stays where it is.
void enter_directory(const char* name) {
  if (mkdir(name, 0777) == 0 || errno == EEXIST) {
    if (chdir(name) != 0) print("cannot enter %s\n", name);
  }
}

int run_single(const Case& test) {
  enter_directory(test.name);
  test.run();
  print("case %s %s\n", test.name, failures != 0 ? "FAIL" : "ok");
  return failures != 0 ? 1 : 0;
}

int run_all() {
  int failed = 0;
  for (const Case* test = first_case; test != nullptr; test = test->next) {
    pid_t pid = fork();
    if (pid == 0) {
      enter_directory(test->name);
      test->run();
      _exit(failures != 0 ? 1 : 0);
    }
    int status = pid > 0 ? wait_for(pid) : -1;
    if (status == -1) {
      print("case %s FAIL (no child: %s)\n", test->name, errno_text(errno).c_str());
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == kSkipStatus) {
      print("case %s skip\n", test->name);
      continue;
    } else if (status == 0) {
      print("case %s ok\n", test->name);
      continue;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
      print("case %s FAIL\n", test->name);
    } else {
      print("case %s FAIL (%s)\n", test->name, status_text(status).c_str());
    }
    ++failed;
  }
  return failed != 0 ? 1 : 0;
}

}  // namespace

int failures = 0;

Case::Case(const char* case_name, void (*body)()) : name(case_name), run(body) {
  Case** last = &first_case;
  while (*last != nullptr) last = &(*last)->next;
  *last = this;
}

Role::Role(const char* role_name, int (*body)(int, char**))
    : name(role_name), run(body), next(first_role) {
  first_role = this;
}

const char* self_path() { return self; }

void print(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (length > static_cast<int>(sizeof text) - 1) length = sizeof text - 1;
  if (write(STDOUT_FILENO, text, static_cast<size_t>(length)) != length) _exit(3);
}

void fail(const char* file, int line, const char* format, ...) {
  ++failures;
  char text[900];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  print("  %s:%d: %s\n", base_name(file), line, text);
}

void skip(const char* reason) {
  print("  skipped: %s\n", reason);
  _exit(kSkipStatus);
}

std::string errno_text(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "errno " + std::to_string(error);
}

std::string signal_text(int signo) {
  const char* name = sigabbrev_np(signo);
  return name != nullptr ? "SIG" + std::string(name) : "signal " + std::to_string(signo);
}

std::string status_text(int status) {
  if (status == -1) return "no such child";
  if (WIFEXITED(status)) return "exited " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "killed by " + signal_text(WTERMSIG(status));
  if (WIFSTOPPED(status)) return "stopped by " + signal_text(WSTOPSIG(status));
  if (WIFCONTINUED(status)) return "continued";
  return "status " + std::to_string(status);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) == -1) {
    if (errno != EINTR) return -1;
  }
  return status;
}

bool check_exit(const char* file, int line, pid_t pid, int code) {
  int status = pid > 0 ? wait_for(pid) : -1;
  if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == code) return true;
  fail(file, line, "child %s, expected exited %d", status_text(status).c_str(), code);
  return false;
}

bool check_killed(const char* file, int line, pid_t pid, int signo) {
  int status = pid > 0 ? wait_for(pid) : -1;
  if (status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == signo) return true;
  fail(file, line, "child %s, expected killed by %s", status_text(status).c_str(),
       signal_text(signo).c_str());
  return false;
}

bool has_capability(int capability) {
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return ((data[capability / 32].effective >> (capability % 32)) & 1) != 0;
}

void sleep_ms(int milliseconds) {
  timespec left = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
  while (nanosleep(&left, &left) == -1 && errno == EINTR) {
  }
}

int64_t now_ns(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void wait_until_blocked(pid_t pid, pid_t tid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
  for (int i = 0; i < 2000; ++i) {
    std::string stat = read_file(path);
    size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) break;  // no /proc: give it time instead
    if (stat.size() > name_end + 2 && stat[name_end + 2] == 'S') return;
    sleep_ms(1);
  }
  sleep_ms(50);
}

std::string read_file(const char* path) {
  std::string content;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) return content;
  char buffer[4096];
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0)
    content.append(buffer, static_cast<size_t>(got));
  close(fd);
  return content;
}

bool write_file(const char* path, const std::string& content) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd == -1) return false;
  bool written = write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  close(fd);
  return written;
}

}  // namespace guest

int main(int argc, char** argv) {
  using namespace guest;
  remember_self(argv[0]);
  if (argc == 1) return run_all();
  if (strcmp(argv[1], "--list") == 0) {
    for (const Case* test = first_case; test != nullptr; test = test->next)
      print("%s\n", test->name);
    return 0;
  }
  if (argc > 2 && strcmp(argv[1], "--role") == 0) {
    for (const Role* role = first_role; role != nullptr; role = role->next) {
      if (strcmp(role->name, argv[2]) == 0) return role->run(argc - 2, argv + 2);
    }
    return 99;
  }
  for (const Case* test = first_case; test != nullptr; test = test->next) {
    if (strcmp(test->name, argv[1]) == 0) return run_single(*test);
  }
  print("no case named %s\n", argv[1]);
  return 2;
}
