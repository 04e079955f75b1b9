// One table of system calls. A row binds a number to a handler; everything else that is known
// about the call is derived from the handler's signature.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// Groups as users name them: "@file" in a profile, --trace=file.
enum class Group : uint8_t {
  kIo,
  kFile,
  kDir,
  kStat,
  kMm,
  kProcess,
  kExec,
  kSignal,
  kTime,
  kFutex,
  kPoll,
  kSocket,
  kCred,
  kIpc,
  kSystem,
  kMount,
  kModule,
  kBpf,
  kKey,
  kPtrace,
  kAio,
};
std::string_view group_name(Group group);
// The groups of that name, for traces: all of them for an empty name, none for an unknown one.
std::bitset<64> groups_named(std::string_view name);

enum class Support : uint8_t {
  kFull,     // as on Linux, as far as our tests go
  kPartial,  // the note says what is missing
  kRefused,  // answered as a Linux where the facility is absent or forbidden would: see the note
  kNone,     // not implemented: ENOSYS
};

struct Syscall {
  using Call = Result<uint64_t> (*)(Task&, const Frame&);
  using Print = void (*)(Task&, const Frame&, std::string&);

  int number;
  std::string_view name;
  Call call;    // null where support is kRefused or kNone
  Print print;  // null without a handler
  Group group;
  Support support;
  Errno refusal;  // what is returned where call is null
  std::string_view note;
  int argc;
  std::array<std::string_view, 6> kinds;
  // The handler has set all registers itself when it succeeds (execve, rt_sigreturn).
  bool sets_registers;
};

template <auto Fn>
struct Bind;
template <class... A, Result<uint64_t> (*Fn)(Task&, A...)>
struct Bind<Fn> {
  static constexpr int kArgc = sizeof...(A);
  static constexpr std::array<std::string_view, 6> kinds() {
    std::array<std::string_view, 6> kinds{};
    size_t i = 0;
    ((kinds[i++] = Arg<A>::kKind), ...);
    return kinds;
  }
  static Result<uint64_t> call(Task& task, const Frame& frame) {
    return call_with(task, frame, std::index_sequence_for<A...>{});
  }
  static void print([[maybe_unused]] Task& task, [[maybe_unused]] const Frame& frame,
                    [[maybe_unused]] std::string& out) {
    [[maybe_unused]] size_t i = 0;
    (print_one<A>(task, frame, i++, out), ...);
  }

 private:
  template <size_t... I>
  static Result<uint64_t> call_with(Task& task, [[maybe_unused]] const Frame& frame,
                                    std::index_sequence<I...>) {
    return Fn(task, Arg<A>::decode(frame.args[I])...);
  }
  template <class T>
  static void print_one(Task& task, const Frame& frame, size_t i, std::string& out) {
    if (i > 0) out += ", ";
    Arg<T>::print(task, frame, i, out);
  }
};

// All numbers below this have a row, or none exists on x86-64.
inline constexpr uint64_t kTableSize = 470;

// The row of a number; null where Linux has no such system call (ENOSYS).
const Syscall* find(uint64_t number);
const Syscall* find(std::string_view name);
// Every row, by number.
std::span<const Syscall> rows();

}  // namespace boxrun::syscalls
