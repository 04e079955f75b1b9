#include "sentry/fs/host_terminal.h"

#include <asm/termbits.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "sentry/vfs/file_description.h"

namespace boxrun::fs {
namespace {

// How an ioctl of the list uses its argument.
enum class Argument : uint8_t { kIn, kOut, kValue };
struct Rule {
  uint32_t command;
  size_t size;  // of what the argument points to
  Argument argument;
  bool changes;  // refused to the background (drivers/tty/tty_ioctl.c: tty_check_change)
};
constexpr Rule kRules[] = {
    {TCGETS, sizeof(termios), Argument::kOut, false},
    {TCSETS, sizeof(termios), Argument::kIn, true},
    {TCSETSW, sizeof(termios), Argument::kIn, true},
    {TCSETSF, sizeof(termios), Argument::kIn, true},
    {TCGETS2, sizeof(termios2), Argument::kOut, false},
    {TCSETS2, sizeof(termios2), Argument::kIn, true},
    {TCSETSW2, sizeof(termios2), Argument::kIn, true},
    {TCSETSF2, sizeof(termios2), Argument::kIn, true},
    {TIOCGWINSZ, sizeof(winsize), Argument::kOut, false},
    {TIOCSWINSZ, sizeof(winsize), Argument::kIn, false},
    {TIOCOUTQ, sizeof(int), Argument::kOut, false},
    {TCSBRK, 0, Argument::kValue, true},
    {TCXONC, 0, Argument::kValue, true},
    {TCFLSH, 0, Argument::kValue, true},
};

Result<uint64_t> job_control(vfs::Terminal& terminal, uint32_t command, uint64_t arg,
                             mm::MemoryManager& memory, vfs::IoctlCaller& caller) {
  switch (command) {
    case TIOCGPGRP:
      TRY(memory.write(mm::UserOut<pid_t>{arg}, TRY(caller.foreground_group(terminal))));
      return uint64_t{0};
    case TIOCGSID:
      TRY(memory.write(mm::UserOut<pid_t>{arg}, TRY(caller.session(terminal))));
      return uint64_t{0};
    case TIOCSPGRP:
      TRY(caller.check_change(terminal));
      TRY(caller.set_foreground_group(terminal, TRY(memory.read(mm::UserIn<pid_t>{arg}))));
      return uint64_t{0};
    case TIOCSCTTY:
      TRY(caller.acquire(terminal, arg == 1));
      return uint64_t{0};
    case TIOCNOTTY:
      TRY(caller.release(terminal));
      return uint64_t{0};
    default:
      return Errno::kNoTty;
  }
}

Result<uint64_t> pass_on(int fd, const Rule& rule, uint64_t arg, mm::MemoryManager& memory) {
  if (rule.argument == Argument::kValue) {
    return static_cast<uint64_t>(TRY(host_result(::ioctl(fd, rule.command, arg))));
  }
  std::array<std::byte, 64> buffer{};
  static_assert(sizeof(termios2) <= sizeof buffer && sizeof(winsize) <= sizeof buffer);
  const std::span<std::byte> object = std::span(buffer).first(rule.size);
  if (rule.argument == Argument::kIn) TRY(memory.copy_in(arg, object));
  const int result = TRY(host_result(::ioctl(fd, rule.command, buffer.data())));
  if (rule.argument == Argument::kOut) TRY(memory.copy_out(arg, object));
  return static_cast<uint64_t>(result);
}

}  // namespace

bool is_terminal(int fd) {
  termios settings{};
  return ::ioctl(fd, TCGETS, &settings) == 0;
}

bool HostTerminal::stops_background_output() {
  termios settings{};
  return ::ioctl(handle_->fd.get(), TCGETS, &settings) == 0 && (settings.c_lflag & TOSTOP) != 0;
}

// The kernel looks at job control before it looks at how much to read (n_tty_read in
// drivers/tty/n_tty.c), and answers EIO to a background process that blocks SIGTTIN, as all of ours
// do. Comparing process groups would not do: from inside a pid namespace they all are 0.
bool HostTerminal::sandbox_in_background() {
  if (role_ != Role::kControlling) return false;
  char nothing = 0;
  return ::read(handle_->fd.get(), &nothing, 0) < 0 && errno == EIO;
}

Result<Ref<vfs::FileDescription>> HostTerminal::open(const vfs::OpenRequest& request) {
  return open_host_handle(request, request.path.dentry->inode(), handle_, Ref<vfs::Terminal>(this));
}

Result<uint64_t> host_ioctl(int fd, vfs::Terminal* terminal, uint32_t command, uint64_t arg,
                            mm::MemoryManager& memory, vfs::IoctlCaller& caller) {
  if (command == FIONREAD) {
    int bytes = 0;
    TRY(host_result(::ioctl(fd, FIONREAD, &bytes)));
    TRY(memory.write(mm::UserOut<int>{arg}, bytes));
    return uint64_t{0};
  }
  if (terminal == nullptr) return Errno::kNoTty;
  for (const Rule& rule : kRules) {
    if (rule.command != command) continue;
    if (rule.changes) TRY(caller.check_change(*terminal));
    return pass_on(fd, rule, arg, memory);
  }
  return job_control(*terminal, command, arg, memory, caller);
}

}  // namespace boxrun::fs
