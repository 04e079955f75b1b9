// Guest pointers by type and direction. They cannot be dereferenced: MemoryManager copies.
#pragma once
#include <cstdint>

namespace boxrun::mm {

struct Bytes;  // marker: a buffer whose length is another argument

// A guest address the system call reads a T from, or writes a T to, or both.
template <class T>
struct UserIn {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
};
template <class T>
struct UserOut {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
};
template <class T>
struct UserInOut {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
  UserIn<T> in() const { return {addr}; }
  UserOut<T> out() const { return {addr}; }
};
// A NUL-terminated string.
struct UserString {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
};
// A path name: at most PATH_MAX bytes with its NUL.
struct UserPath {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
};

}  // namespace boxrun::mm
