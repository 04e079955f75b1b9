#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <iterator>
#include <span>

#include "sentry/syscalls/args.h"

namespace boxrun::syscalls::internal {
namespace {

struct Flag {
  uint64_t bits;
  std::string_view name;
};

// "A|B|0x40": names for the bits that have one, the rest in hex; `zero` when there are none.
void print_flags(uint64_t value, std::span<const Flag> flags, std::string_view zero,
                 std::string& out) {
  bool first = true;
  const auto add = [&](std::string_view name) {
    if (!first) out += '|';
    out += name;
    first = false;
  };
  for (const Flag& flag : flags) {
    if ((value & flag.bits) != flag.bits) continue;
    add(flag.name);
    value &= ~flag.bits;
  }
  if (value != 0) add(fmt::format("{:#x}", value));
  if (first) out += zero;
}

}  // namespace

void print_int(int64_t value, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}", value);
}
void print_unsigned(uint64_t value, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}", value);
}
void print_hex(uint64_t value, std::string& out) {
  if (value == 0) {
    out += "0";
    return;
  }
  fmt::format_to(std::back_inserter(out), "{:#x}", value);
}
void print_octal(uint64_t value, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{:#o}", value);
}

void print_dirfd(int value, std::string& out) {
  if (value == AT_FDCWD) {
    out += "AT_FDCWD";
  } else {
    print_int(value, out);
  }
}

void print_signal(int value, std::string& out) {
  const char* name = value > 0 && value < NSIG ? sigabbrev_np(value) : nullptr;
  if (name != nullptr) {
    fmt::format_to(std::back_inserter(out), "SIG{}", name);
  } else {
    print_int(value, out);
  }
}

void print_open_flags(int value, std::string& out) {
  static constexpr std::string_view kModes[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
  static constexpr Flag kFlags[] = {
      {O_CREAT, "O_CREAT"},         {O_EXCL, "O_EXCL"},         {O_NOCTTY, "O_NOCTTY"},
      {O_TRUNC, "O_TRUNC"},         {O_APPEND, "O_APPEND"},     {O_NONBLOCK, "O_NONBLOCK"},
      {O_SYNC, "O_SYNC"},           {O_DSYNC, "O_DSYNC"},       {O_TMPFILE, "O_TMPFILE"},
      {O_DIRECTORY, "O_DIRECTORY"}, {O_NOFOLLOW, "O_NOFOLLOW"}, {O_CLOEXEC, "O_CLOEXEC"},
      {O_NOATIME, "O_NOATIME"},     {O_PATH, "O_PATH"},         {O_DIRECT, "O_DIRECT"},
      {O_ASYNC, "O_ASYNC"}};
  out += kModes[value & O_ACCMODE];
  const auto rest = static_cast<uint32_t>(value) & ~uint32_t{O_ACCMODE};
  if (rest == 0) return;
  out += '|';
  print_flags(rest, kFlags, "", out);
}

void print_prot(uint64_t value, std::string& out) {
  static constexpr Flag kFlags[] = {{PROT_READ, "PROT_READ"},
                                    {PROT_WRITE, "PROT_WRITE"},
                                    {PROT_EXEC, "PROT_EXEC"},
                                    {PROT_GROWSDOWN, "PROT_GROWSDOWN"}};
  print_flags(value, kFlags, "PROT_NONE", out);
}

void print_map_flags(uint64_t value, std::string& out) {
  static constexpr Flag kFlags[] = {{MAP_SHARED_VALIDATE, "MAP_SHARED_VALIDATE"},
                                    {MAP_SHARED, "MAP_SHARED"},
                                    {MAP_PRIVATE, "MAP_PRIVATE"},
                                    {MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"},
                                    {MAP_FIXED, "MAP_FIXED"},
                                    {MAP_ANONYMOUS, "MAP_ANONYMOUS"},
                                    {MAP_GROWSDOWN, "MAP_GROWSDOWN"},
                                    {MAP_DENYWRITE, "MAP_DENYWRITE"},
                                    {MAP_LOCKED, "MAP_LOCKED"},
                                    {MAP_NORESERVE, "MAP_NORESERVE"},
                                    {MAP_POPULATE, "MAP_POPULATE"},
                                    {MAP_STACK, "MAP_STACK"},
                                    {MAP_HUGETLB, "MAP_HUGETLB"}};
  print_flags(value, kFlags, "0", out);
}

void print_clone_flags(uint64_t value, std::string& out) {
  static constexpr Flag kFlags[] = {
      {CLONE_VM, "CLONE_VM"},           {CLONE_FS, "CLONE_FS"},
      {CLONE_FILES, "CLONE_FILES"},     {CLONE_SIGHAND, "CLONE_SIGHAND"},
      {CLONE_PIDFD, "CLONE_PIDFD"},     {CLONE_VFORK, "CLONE_VFORK"},
      {CLONE_PARENT, "CLONE_PARENT"},   {CLONE_THREAD, "CLONE_THREAD"},
      {CLONE_NEWNS, "CLONE_NEWNS"},     {CLONE_SYSVSEM, "CLONE_SYSVSEM"},
      {CLONE_SETTLS, "CLONE_SETTLS"},   {CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"},
      {CLONE_NEWUSER, "CLONE_NEWUSER"}, {CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"},
      {CLONE_NEWPID, "CLONE_NEWPID"},   {CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID"},
      {CLONE_NEWNET, "CLONE_NEWNET"}};
  print_flags(value & ~uint64_t{CSIGNAL}, kFlags, "0", out);
  if ((value & CSIGNAL) != 0) {
    out += '|';
    print_signal(static_cast<int>(value & CSIGNAL), out);
  }
}

}  // namespace boxrun::syscalls::internal
