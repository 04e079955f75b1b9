#pragma once
#include <unistd.h>

#include <utility>

#include "src/base/errno.h"
#include "src/base/result.h"

namespace boxrun {

// Owns one host file descriptor. The only place where a host descriptor may be owned.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int owned) : fd_(owned) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int owned = -1) {
    if (const int old = std::exchange(fd_, owned); old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

// For host calls that return a new descriptor or -1 with errno.
inline Result<UniqueFd> own_fd(int fd) {
  if (fd < 0) return last_error();
  return UniqueFd(fd);
}

// For host calls that return -1 with errno and otherwise a value.
template <class T>
Result<T> host_result(T value) {
  if (value < 0) return last_error();
  return value;
}

}  // namespace boxrun
