// The vocabulary of system call arguments: one small type per kind of argument. A handler's C++
// signature, written in these types, is the schema from which decoding, tracing, the policy's
// report and the manual page are derived (table.h).
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/mm/user.h"

namespace boxrun::kernel {
class Task;
}

namespace boxrun::syscalls {

using kernel::Task;
using mm::Bytes;
using mm::UserIn;
using mm::UserInOut;
using mm::UserOut;
using mm::UserPath;
using mm::UserString;

// A system call as it arrived: the number, six registers, and (at exit) what it returned.
struct Frame {
  uint64_t number = 0;
  std::array<uint64_t, 6> args{};
  int64_t result = 0;  // value, or -errno
};

// Each kind is a distinct type around the register's value as Linux's prototype narrows it.
struct Fd {
  int value;
};
struct DirFd {
  int value;
};  // a directory descriptor or AT_FDCWD
struct Size {
  uint64_t value;
};  // size_t
struct Offset {
  int64_t value;
};  // loff_t
struct Address {
  uint64_t value;
};  // an address that is not copied from or to
struct Int {
  int value;
};
struct Long {
  int64_t value;
};
struct Unsigned {
  uint32_t value;
};
struct ULong {
  uint64_t value;
};
struct Pid {
  int value;
};
struct Uid {
  uint32_t value;
};
struct Gid {
  uint32_t value;
};
struct Signal {
  int value;
};
struct ClockId {
  int value;
};
struct Mode {
  uint32_t value;
};  // umode_t
struct OpenFlags {
  int value;
};
struct AtFlags {
  int value;
};
struct MapProt {
  uint64_t value;
};
struct MapFlags {
  uint64_t value;
};
struct CloneFlags {
  uint64_t value;
};
struct Command {
  uint32_t value;
};  // fcntl, ioctl, prctl, futex ... operations

// How a kind is decoded from its register and printed (arg_print.cpp).
template <class T>
struct Arg;

namespace internal {
void print_int(int64_t value, std::string& out);
void print_unsigned(uint64_t value, std::string& out);
void print_hex(uint64_t value, std::string& out);
void print_octal(uint64_t value, std::string& out);
void print_dirfd(int value, std::string& out);
void print_signal(int value, std::string& out);
void print_open_flags(int value, std::string& out);
void print_prot(uint64_t value, std::string& out);
void print_map_flags(uint64_t value, std::string& out);
void print_clone_flags(uint64_t value, std::string& out);
// A quoted, escaped, shortened copy of guest memory; the address in hex when it cannot be read.
void print_string(Task& task, uint64_t addr, std::string& out);
}  // namespace internal

#define BOXRUN_ARG(Type, name, as, printer)                                    \
  template <>                                                                  \
  struct Arg<Type> {                                                           \
    static constexpr std::string_view kKind = name;                            \
    static Type decode(uint64_t reg) { return {static_cast<as>(reg)}; }        \
    static void print(Task&, const Frame& frame, size_t i, std::string& out) { \
      internal::printer(decode(frame.args[i]).value, out);                     \
    }                                                                          \
  }

BOXRUN_ARG(Fd, "fd", int, print_int);
BOXRUN_ARG(DirFd, "dirfd", int, print_dirfd);
BOXRUN_ARG(Size, "size", uint64_t, print_unsigned);
BOXRUN_ARG(Offset, "offset", int64_t, print_int);
BOXRUN_ARG(Address, "address", uint64_t, print_hex);
BOXRUN_ARG(Int, "int", int, print_int);
BOXRUN_ARG(Long, "long", int64_t, print_int);
BOXRUN_ARG(Unsigned, "unsigned", uint32_t, print_unsigned);
BOXRUN_ARG(ULong, "unsigned long", uint64_t, print_hex);
BOXRUN_ARG(Pid, "pid", int, print_int);
BOXRUN_ARG(Uid, "uid", uint32_t, print_unsigned);
BOXRUN_ARG(Gid, "gid", uint32_t, print_unsigned);
BOXRUN_ARG(Signal, "signal", int, print_signal);
BOXRUN_ARG(ClockId, "clock", int, print_int);
BOXRUN_ARG(Mode, "mode", uint32_t, print_octal);
BOXRUN_ARG(OpenFlags, "open flags", int, print_open_flags);
BOXRUN_ARG(AtFlags, "at flags", int, print_hex);
BOXRUN_ARG(MapProt, "protection", uint64_t, print_prot);
BOXRUN_ARG(MapFlags, "map flags", uint64_t, print_map_flags);
BOXRUN_ARG(CloneFlags, "clone flags", uint64_t, print_clone_flags);
BOXRUN_ARG(Command, "command", uint32_t, print_hex);
#undef BOXRUN_ARG

// Guest pointers: where they point is printed as an address; paths and strings as text.
template <class Pointer>
struct PointerArg {
  static Pointer decode(uint64_t reg) { return {reg}; }
  static void print(Task&, const Frame& frame, size_t i, std::string& out) {
    internal::print_hex(frame.args[i], out);
  }
};
template <class T>
struct Arg<UserIn<T>> : PointerArg<UserIn<T>> {
  static constexpr std::string_view kKind = "in pointer";
};
template <class T>
struct Arg<UserOut<T>> : PointerArg<UserOut<T>> {
  static constexpr std::string_view kKind = "out pointer";
};
template <class T>
struct Arg<UserInOut<T>> : PointerArg<UserInOut<T>> {
  static constexpr std::string_view kKind = "in-out pointer";
};
template <>
struct Arg<UserPath> : PointerArg<UserPath> {
  static constexpr std::string_view kKind = "path";
  static void print(Task& task, const Frame& frame, size_t i, std::string& out) {
    internal::print_string(task, frame.args[i], out);
  }
};
template <>
struct Arg<UserString> : PointerArg<UserString> {
  static constexpr std::string_view kKind = "string";
  static void print(Task& task, const Frame& frame, size_t i, std::string& out) {
    internal::print_string(task, frame.args[i], out);
  }
};
template <>
struct Arg<UserOut<Bytes>> : PointerArg<UserOut<Bytes>> {
  static constexpr std::string_view kKind = "out buffer";
};
template <>
struct Arg<UserIn<Bytes>> : PointerArg<UserIn<Bytes>> {
  static constexpr std::string_view kKind = "in buffer";
};

}  // namespace boxrun::syscalls
