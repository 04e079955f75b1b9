// The bounds-checked encoder and decoder of 9P2000.L.
#pragma once
#include <type_traits>

#include "gofer/protocol.h"

namespace boxrun::gofer {

// Appends fields to a buffer that somebody else owns. Once something did not fit nothing more is
// written and ok() stays false.
class Encoder {
 public:
  explicit Encoder(std::span<std::byte> out) : out_(out) {}

  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }
  bool ok() const { return ok_; }
  size_t size() const { return size_; }
  size_t room() const { return out_.size() - size_; }
  // Takes back what was put after the first `size` bytes, and with it any failure since.
  void rewind(size_t size) {
    size_ = size;
    ok_ = true;
  }

  void put(uint8_t v) { put_integer(v); }
  void put(uint16_t v) { put_integer(v); }
  void put(uint32_t v) { put_integer(v); }
  void put(uint64_t v) { put_integer(v); }
  template <class Enum>
  requires std::is_enum_v<Enum>
  void put(Enum v) { put_integer(static_cast<std::underlying_type_t<Enum>>(v)); }
  void put(std::string_view v);  // with a two-byte length
  void put(Data v);              // with a four-byte length
  void put(const Names& v);
  void put(const Qids& v);
  void put(const Qid& v) { (*this)(v.type, v.version, v.path); }
  void put(const Time& v) { (*this)(v.sec, v.nsec); }
  void put(const Attr& v);
  void put_raw(Data v);
  // Overwrites a field that was put earlier.
  void patch(size_t at, uint32_t v);

 private:
  template <class Integer>
  void put_integer(Integer v);

  std::span<std::byte> out_;
  size_t size_ = 0;
  bool ok_ = true;
};

// Takes fields out of a packet. After the first field that is not all there ok() stays false and
// every further field is empty.
class Decoder {
 public:
  explicit Decoder(Data in) : in_(in) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (get(fields), ...);
  }
  bool ok() const { return ok_; }
  // Everything was there and nothing is left over.
  bool finished() const { return ok_ && at_ == in_.size(); }
  size_t remaining() const { return in_.size() - at_; }
  Data rest() const { return in_.subspan(at_); }

  void get(uint8_t& v) { get_integer(v); }
  void get(uint16_t& v) { get_integer(v); }
  void get(uint32_t& v) { get_integer(v); }
  void get(uint64_t& v) { get_integer(v); }
  template <class Enum>
  requires std::is_enum_v<Enum>
  void get(Enum& v) {
    std::underlying_type_t<Enum> number{};
    get_integer(number);
    v = static_cast<Enum>(number);
  }
  void get(std::string_view& v);
  void get(Data& v);
  void get(Names& v);
  void get(Qids& v);
  void get(Qid& v) { (*this)(v.type, v.version, v.path); }
  void get(Time& v) { (*this)(v.sec, v.nsec); }
  void get(Attr& v);
  // The next `size` bytes; empty when there are fewer.
  Data get_raw(size_t size);

 private:
  template <class Integer>
  void get_integer(Integer& v);

  Data in_;
  size_t at_ = 0;
  bool ok_ = true;
};

// One message of a packet, its body not yet decoded.
struct Frame {
  Type type{};
  uint16_t tag = 0;
  Data body;
};
// Takes the next message off `decoder`; EPROTO when the length does not fit what is there.
Result<Frame> next_frame(Decoder& decoder);

}  // namespace boxrun::gofer
