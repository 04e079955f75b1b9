#pragma once
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "src/base/check.h"
#include "src/base/errno.h"

namespace boxrun {

// A value or an errno: what every fallible function below the command line returns.
// Move-only; taking the value of an error is a CHECK. Implicit from both on purpose (NOLINT).
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : ok_(true) {  // NOLINT(google-explicit-constructor)
    ::new (&value_) T(std::move(value));
  }
  template <class U>
  requires(std::is_convertible_v<U, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
           !std::is_same_v<std::remove_cvref_t<U>, Errno> &&
           !std::is_same_v<std::remove_cvref_t<U>, Result>) Result(U&& value)  // NOLINT
      : ok_(true) {
    ::new (&value_) T(std::forward<U>(value));
  }
  Result(Errno e) : ok_(false), errno_(e) {  // NOLINT(google-explicit-constructor)
    DCHECK(e != Errno::kOk);
  }
  Result(Result&& other) noexcept : ok_(other.ok_) {
    if (ok_) {
      ::new (&value_) T(std::move(other.value_));
    } else {
      errno_ = other.errno_;
    }
  }
  Result& operator=(Result&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      ::new (this) Result(std::move(other));
    }
    return *this;
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() {
    if (ok_) value_.~T();
  }

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  Errno error() const { return ok_ ? Errno::kOk : errno_; }

  T& operator*() & {
    CHECK(ok_);
    return value_;
  }
  const T& operator*() const& {
    CHECK(ok_);
    return value_;
  }
  T* operator->() {
    CHECK(ok_);
    return &value_;
  }
  const T* operator->() const {
    CHECK(ok_);
    return &value_;
  }
  T take() && {
    CHECK(ok_);
    return std::move(value_);
  }
  T value_or(T other) && { return ok_ ? std::move(value_) : std::move(other); }

 private:
  bool ok_;
  union {
    T value_;
    Errno errno_;
  };
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Errno e) : errno_(e) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return errno_ == Errno::kOk; }
  explicit operator bool() const { return ok(); }
  Errno error() const { return errno_; }
  void take() && {}

 private:
  Errno errno_ = Errno::kOk;
};

}  // namespace boxrun

// The value of the expression, or return its error from the enclosing function.
#define TRY(...) BOXRUN_TRY_NAMED(BOXRUN_TRY_JOIN(try_result_, __COUNTER__), __VA_ARGS__)
#define BOXRUN_TRY_JOIN(a, b) BOXRUN_TRY_JOIN_EXPANDED(a, b)
#define BOXRUN_TRY_JOIN_EXPANDED(a, b) a##b
#define BOXRUN_TRY_NAMED(name, ...) \
  __extension__({                   \
    auto&& name = (__VA_ARGS__);    \
    if (!name.ok()) [[unlikely]]    \
      return name.error();          \
    std::move(name).take();         \
  })
