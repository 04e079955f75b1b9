// An input, taken from front to back, so that a seed can be written by hand (seeds.py). Behind its
// end everything is zero.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace boxrun::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }
  template <class T>
  T take() {
    T value{};
    const std::string_view bytes = text(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  uint8_t byte() { return take<uint8_t>(); }
  std::string_view text(size_t size) {
    const auto bytes = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // A length byte and as much text.
  std::string_view string() { return text(byte()); }
  std::string_view rest() { return text(rest_.size()); }
  template <class T, size_t N>
  const T& one_of(const T (&choices)[N]) {
    return choices[byte() % N];
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace boxrun::fuzz
