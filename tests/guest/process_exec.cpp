// execve: what is kept, what is reset, scripts, errors.
#include <fcntl.h>
#include <pthread.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

extern char** environ;

namespace {

// Executes path in a child with these arguments and returns what it wrote to stdout.
std::string output_of(const char* path, std::initializer_list<const char*> arguments,
                      int* status = nullptr) {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    const char* argv[16] = {};
    size_t count = 0;
    for (const char* argument : arguments) argv[count++] = argument;
    execve(path, const_cast<char**>(argv), environ);
    _exit(errno == ENOEXEC ? 126 : 127);
  }
  close(ends[1]);
  std::string output;
  char buffer[512];
  ssize_t got;
  while ((got = read(ends[0], buffer, sizeof buffer)) > 0)
    output.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int wait_status = guest::wait_for(pid);
  if (status != nullptr) *status = wait_status;
  return output;
}

void write_script(const char* path, const std::string& content, mode_t mode = 0755) {
  REQUIRE(guest::write_file(path, content));
  REQUIRE(chmod(path, mode) == 0);
}

long try_exec(const char* path) {
  const char* argv[] = {"x", nullptr};
  return execve(path, const_cast<char**>(argv), environ);
}

}  // namespace

ROLE(show_arguments) {
  for (int i = 1; i < argc; ++i) guest::print("<%s>", argv[i]);
  return 0;
}

ROLE(show_descriptors) {
  for (int fd = 3; fd < 20; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) guest::print("%d ", fd);
  }
  return 0;
}

ROLE(show_signals) {
  struct sigaction action;
  sigset_t mask, pending;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  sigpending(&pending);
  for (int signo : {SIGUSR1, SIGUSR2, SIGTERM}) {
    sigaction(signo, nullptr, &action);
    guest::print("%s:%s%s%s ", guest::signal_text(signo).c_str(),
                 action.sa_handler == SIG_DFL   ? "default"
                 : action.sa_handler == SIG_IGN ? "ignored"
                                                : "handled",
                 sigismember(&mask, signo) ? ",blocked" : "",
                 sigismember(&pending, signo) ? ",pending" : "");
  }
  stack_t stack = {};
  sigaltstack(nullptr, &stack);
  guest::print("altstack:%s", stack.ss_flags == SS_DISABLE ? "none" : "kept");
  return 0;
}

ROLE(show_pid) {
  guest::print("%d %d", getpid(), static_cast<int>(syscall(SYS_gettid)));
  return 0;
}

ROLE(show_addresses) {
  int local = 0;
  guest::print("%p %p %p", static_cast<void*>(&local), reinterpret_cast<void*>(&try_exec),
               reinterpret_cast<void*>(&memcpy));
  return 0;
}

ROLE(show_name) {
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  guest::print("%s", name);
  return 0;
}

CASE(close_on_exec) {
  int kept = open("/", O_RDONLY);
  int closed = open("/", O_RDONLY | O_CLOEXEC);
  int duplicate = dup(closed);  // dup clears the flag
  int duplicate_cloexec = fcntl(kept, F_DUPFD_CLOEXEC, 0);
  std::string expected = std::to_string(kept) + " " + std::to_string(duplicate) + " ";
  CHECK_EQ(output_of(guest::self_path(), {"x", "--role", "show_descriptors"}), expected);
  CHECK_OK(fcntl(closed, F_GETFD));
  CHECK_OK(fcntl(duplicate_cloexec, F_GETFD));
}

CASE(signal_state) {
  signal(SIGUSR1, [](int) {});
  signal(SIGUSR2, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  static char alternate[65536];
  stack_t stack = {};
  stack.ss_sp = alternate;
  stack.ss_size = sizeof alternate;
  sigaltstack(&stack, nullptr);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    raise(SIGTERM);  // pending signals survive exec
    dup2(ends[1], 1);
    execl(guest::self_path(), "x", "--role", "show_signals", nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
  char text[256] = {};
  CHECK(read(ends[0], text, sizeof text - 1) > 0);
  CHECK_EQ(std::string(text),
           "SIGUSR1:default SIGUSR2:ignored SIGTERM:default,blocked,pending altstack:none");
}

CASE(argv0_is_free) {
  CHECK_EQ(
      output_of(guest::self_path(), {"anything at all", "--role", "show_arguments", "a b", ""}),
      "<a b><>");
}

CASE(process_name_is_the_file_name) {
  prctl(PR_SET_NAME, "before");
  CHECK_EQ(output_of(guest::self_path(), {"x", "--role", "show_name"}), "process_exec");
}

CASE(pid_stays_and_threads_end) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    pthread_t thread;
    // exec from a thread that is not the leader: it takes over the leader's pid.
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          execl(guest::self_path(), "x", "--role", "show_pid", nullptr);
          _exit(9);
        },
        nullptr);
    for (;;) pause();
  }
  CHECK_EXIT(pid, 0);
  char text[64] = {};
  CHECK(read(ends[0], text, sizeof text - 1) > 0);
  CHECK_EQ(std::string(text), std::to_string(pid) + " " + std::to_string(pid));
}

CASE(exec_ends_the_other_threads) {
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0; i < 4; ++i) {
      pthread_t thread;
      pthread_create(
          &thread, nullptr,
          [](void*) -> void* {
            for (;;) pause();
          },
          nullptr);
    }
    execl(guest::self_path(), "x", "--role", "show_descriptors", nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

CASE(errors) {
  CHECK_ERRNO(try_exec("missing"), ENOENT);
  CHECK_ERRNO(try_exec(""), ENOENT);
  CHECK_ERRNO(try_exec("."), EACCES);
  CHECK_ERRNO(try_exec("/dev/null"), EACCES);
  write_script("plain", "no magic number\n", 0644);
  CHECK_ERRNO(try_exec("plain"), EACCES);  // root, too, needs one x bit
  CHECK_ERRNO(try_exec("plain/x"), ENOTDIR);
  chmod("plain", 0755);
  CHECK_ERRNO(try_exec("plain"), ENOEXEC);
  write_script("empty", "");
  CHECK_ERRNO(try_exec("empty"), ENOEXEC);
  CHECK_ERRNO(syscall(SYS_execve, 8, nullptr, nullptr), EFAULT);
  CHECK_ERRNO(syscall(SYS_execve, guest::self_path(), 8, nullptr), EFAULT);
  const char* bad[] = {"x", reinterpret_cast<const char*>(8), nullptr};
  CHECK_ERRNO(execve(guest::self_path(), const_cast<char**>(bad), environ), EFAULT);
}

CASE(broken_elf_files) {
  std::string self = guest::read_file(guest::self_path());
  REQUIRE(self.size() > 4096);
  write_script("truncated", self.substr(0, 40));
  CHECK_ERRNO(try_exec("truncated"), ENOEXEC);
  std::string other = self;
  other[4] = 1;  // ELFCLASS32
  write_script("class32", other);
  other = self;
  other[18] = 40;  // EM_ARM
  write_script("machine", other);
  CHECK_ERRNO(try_exec("machine"), ENOEXEC);
  other = self;
  other[16] = 1;  // ET_REL
  write_script("relocatable", other);
  CHECK_ERRNO(try_exec("relocatable"), ENOEXEC);
}

CASE(missing_elf_interpreter_is_enoent) {
  std::string self = guest::read_file(guest::self_path());
  size_t at = self.find("/lib64/ld-linux");
  REQUIRE(at != std::string::npos);
  self[at + 1] = 'X';
  write_script("lost", self);
  CHECK_ERRNO(try_exec("lost"), ENOENT);
}

CASE(argument_size_limits) {
  std::string one(120000, 'a');
  std::string two(140000, 'a');
  const char* too_long[] = {"x", two.c_str(), nullptr};
  CHECK_ERRNO(execve(guest::self_path(), const_cast<char**>(too_long), environ), E2BIG);
  rlimit stack = {1 << 20, 1 << 20};  // a quarter of it is for arguments
  REQUIRE(setrlimit(RLIMIT_STACK, &stack) == 0);
  const char* many[] = {"x", one.c_str(), one.c_str(), one.c_str(), nullptr};
  CHECK_ERRNO(execve(guest::self_path(), const_cast<char**>(many), environ), E2BIG);
  const char* fits[] = {"x", "--role", "show_arguments", one.c_str(), nullptr};
  pid_t pid = fork();
  if (pid == 0) {
    dup2(open("/dev/null", O_WRONLY), 1);
    execve(guest::self_path(), const_cast<char**>(fits), environ);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

CASE(busy_text) {
  std::string self = guest::read_file(guest::self_path());
  write_script("copy", self);
  int writer = open("copy", O_WRONLY);
  CHECK_ERRNO(try_exec("copy"), ETXTBSY);
  close(writer);
  CHECK_EQ(output_of("copy", {"x", "--role", "show_arguments", "runs"}), "<runs>");
}

CASE(no_randomization) {
  REQUIRE(personality(ADDR_NO_RANDOMIZE) != -1);
  std::string first = output_of(guest::self_path(), {"x", "--role", "show_addresses"});
  CHECK(!first.empty());
  CHECK_EQ(output_of(guest::self_path(), {"x", "--role", "show_addresses"}), first);
}

CASE(scripts) {
  std::string self = guest::self_path();
  if (self.size() > 200) guest::skip("path of the program is too long for #!");
  write_script("script", "#!" + self + "\nrest is ignored\n");
  CHECK_EQ(output_of("./script", {"zero", "one", "two"}), "no case named ./script\n");
  write_script("with_argument", "#! \t" + self + " \t one argument with spaces \t\n");
  CHECK_EQ(output_of("./with_argument", {"zero", "one"}),
           "no case named one argument with spaces\n");
  write_script("no_newline", "#!" + self);
  CHECK_EQ(output_of("./no_newline", {"zero"}), "no case named ./no_newline\n");
}

CASE(shell_scripts) {
  write_script("script", "#!/bin/sh -e\necho \"$0|$1|$2|$#\"\nexit 4\n");
  int status = 0;
  CHECK_EQ(output_of("./script", {"zero", "one", "t w o"}, &status), "./script|one|t w o|2\n");
  CHECK_EQ(guest::status_text(status), "exited 4");
}

CASE(nested_scripts) {
  write_script("level1", "#!/bin/sh\necho \"$@\"\n");
  write_script("level2", "#!./level1 two\n");
  write_script("level3", "#!./level2 three\n");
  CHECK_EQ(output_of("./level3", {"zero", "end"}), "two ./level2 three ./level3 end\n");
  write_script("l4", "#!./level3\n");
  write_script("l5", "#!./l4\n");
  CHECK_EQ(output_of("./l5", {"zero", "end"}), "two ./level2 three ./level3 ./l4 ./l5 end\n");
  write_script("l6", "#!./l5\n");
  CHECK_ERRNO(try_exec("./l6"), ELOOP);
}

CASE(script_errors) {
  write_script("lost", "#!/no/such/interpreter\n");
  CHECK_ERRNO(try_exec("./lost"), ENOENT);
  write_script("directory", "#!/\n");
  CHECK_ERRNO(try_exec("./directory"), EACCES);
  write_script("blank", "#!   \n");
  CHECK_ERRNO(try_exec("./blank"), ENOEXEC);
  write_script("self", "#!./self\n");
  CHECK_ERRNO(try_exec("./self"), ELOOP);
  write_script("long", "#!/" + std::string(400, 'a') + "\n");
  CHECK_ERRNO(try_exec("./long"), ENOEXEC);  // a truncated interpreter path is refused since 5.0
}

CASE(execveat) {
  const char* argv[] = {"x", "--role", "show_arguments", "at", nullptr};
  auto run = [&argv](int fd, const char* path, int flags) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
      syscall(SYS_execveat, fd, path, argv, environ, flags);
      _exit(errno);
    }
    status = guest::wait_for(pid);
    return status;
  };
  int fd = open(guest::self_path(), O_PATH | O_CLOEXEC);
  CHECK_EQ(guest::status_text(run(fd, "", AT_EMPTY_PATH)), "exited 0");
  guest::print("\n");
  CHECK_EQ(guest::status_text(run(fd, "", 0)), "exited " + std::to_string(ENOENT));
  CHECK_EQ(guest::status_text(run(999, "x", 0)), "exited " + std::to_string(EBADF));
  CHECK_EQ(guest::status_text(run(-1, "", 0)), "exited " + std::to_string(ENOENT));
  CHECK_EQ(guest::status_text(run(-1, "", AT_EMPTY_PATH)), "exited " + std::to_string(EBADF));
  CHECK_EQ(guest::status_text(run(AT_FDCWD, "x", 0x100000)), "exited " + std::to_string(EINVAL));
  REQUIRE(symlink(guest::self_path(), "link") == 0);
  CHECK_EQ(guest::status_text(run(AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW)),
           "exited " + std::to_string(ELOOP));
  // A script opened close-on-exec cannot be read again by its interpreter.
  write_script("script", "#!/bin/sh\nexit 3\n");
  int script = open("script", O_RDONLY | O_CLOEXEC);
  CHECK_EQ(guest::status_text(run(script, "", AT_EMPTY_PATH)), "exited " + std::to_string(ENOENT));
  int inherited = open("script", O_RDONLY);
  CHECK_EQ(guest::status_text(run(inherited, "", AT_EMPTY_PATH)), "exited 3");
}

CASE(vfork_child_that_fails_to_exec_leaves_the_parent_whole) {
  static volatile int seen;
  pid_t pid = vfork();
  if (pid == 0) {
    execl("/no/such/file", "x", nullptr);
    seen = errno;
    _exit(5);
  }
  CHECK_EQ(seen, ENOENT);
  CHECK_EXIT(pid, 5);
}
