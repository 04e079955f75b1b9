#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace boxrun::profile {

// One thing wrong with what a person wrote. `file` is empty for the command line; `line` and
// `column` count from 1, 0 where there is none.
struct Error {
  std::string message;
  std::string file = {};
  uint32_t line = 0;
  uint32_t column = 0;

  // "file:line:column: message", without the parts that are not known.
  std::string text() const;
};

// A value, or words for the person who wrote it. (Result carries an errno, which says too little
// about a profile.)
template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : held_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Expected(Error error) : held_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return held_.index() == 0; }
  T& operator*() { return std::get<0>(held_); }
  const T& operator*() const { return std::get<0>(held_); }
  T* operator->() { return &std::get<0>(held_); }
  const T* operator->() const { return &std::get<0>(held_); }
  const Error& error() const { return std::get<1>(held_); }

 private:
  std::variant<T, Error> held_;
};

}  // namespace boxrun::profile
