#include "gofer/protocol.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "gofer/protocol_codec.h"

namespace boxrun::gofer {

// The wire is little-endian and so are all hosts that have a platform; a port to another would
// swap here.
static_assert(std::endian::native == std::endian::little);

bool Names::operator==(const Names& other) const {
  return std::ranges::equal(view(), other.view());
}

template <class Integer>
void Encoder::put_integer(Integer v) {
  put_raw(std::as_bytes(std::span(&v, 1)));
}
template void Encoder::put_integer(uint8_t);
template void Encoder::put_integer(uint16_t);
template void Encoder::put_integer(uint32_t);
template void Encoder::put_integer(uint64_t);

void Encoder::put_raw(Data v) {
  if (!ok_ || v.size() > out_.size() - size_) {
    ok_ = false;
    return;
  }
  if (!v.empty()) std::memcpy(out_.data() + size_, v.data(), v.size());
  size_ += v.size();
}

void Encoder::put(std::string_view v) {
  if (v.size() > UINT16_MAX) {
    ok_ = false;
    return;
  }
  put(static_cast<uint16_t>(v.size()));
  put_raw(std::as_bytes(std::span(v)));
}

void Encoder::put(Data v) {
  if (v.size() > kMaxMessage) {
    ok_ = false;
    return;
  }
  put(static_cast<uint32_t>(v.size()));
  put_raw(v);
}

void Encoder::put(const Names& v) {
  put(v.count);
  for (std::string_view name : v.view()) put(name);
}

void Encoder::put(const Qids& v) {
  put(v.count);
  for (const Qid& qid : v.view()) put(qid);
}

void Encoder::put(const Attr& v) {
  (*this)(v.valid, v.qid, v.mode, v.uid, v.gid, v.nlink, v.rdev, v.size, v.blksize, v.blocks,
          v.atime, v.mtime, v.ctime, v.btime, v.gen, v.data_version);
}

void Encoder::patch(size_t at, uint32_t v) {
  if (!ok_) return;
  CHECK(at + sizeof v <= size_);
  std::memcpy(out_.data() + at, &v, sizeof v);
}

template <class Integer>
void Decoder::get_integer(Integer& v) {
  const Data raw = get_raw(sizeof v);
  v = 0;
  if (!raw.empty()) std::memcpy(&v, raw.data(), sizeof v);
}
template void Decoder::get_integer(uint8_t&);
template void Decoder::get_integer(uint16_t&);
template void Decoder::get_integer(uint32_t&);
template void Decoder::get_integer(uint64_t&);

Data Decoder::get_raw(size_t size) {
  if (!ok_ || size > in_.size() - at_) {
    ok_ = false;
    return {};
  }
  const Data raw = in_.subspan(at_, size);
  at_ += size;
  return raw;
}

void Decoder::get(std::string_view& v) {
  uint16_t size = 0;
  get(size);
  const Data raw = get_raw(size);
  v = {reinterpret_cast<const char*>(raw.data()), raw.size()};
}

void Decoder::get(Data& v) {
  uint32_t size = 0;
  get(size);
  v = get_raw(size);
}

void Decoder::get(Names& v) {
  get(v.count);
  if (v.count > kMaxNames) {
    ok_ = false;
    v.count = 0;
  }
  for (size_t i = 0; i < v.count; i++) get(v.name[i]);
}

void Decoder::get(Qids& v) {
  get(v.count);
  if (v.count > kMaxNames) {
    ok_ = false;
    v.count = 0;
  }
  for (size_t i = 0; i < v.count; i++) get(v.qid[i]);
}

void Decoder::get(Attr& v) {
  (*this)(v.valid, v.qid, v.mode, v.uid, v.gid, v.nlink, v.rdev, v.size, v.blksize, v.blocks,
          v.atime, v.mtime, v.ctime, v.btime, v.gen, v.data_version);
}

Result<Frame> next_frame(Decoder& decoder) {
  uint32_t size = 0;
  Frame frame;
  decoder(size, frame.type, frame.tag);
  if (!decoder.ok() || size < kHeaderSize || size - kHeaderSize > decoder.remaining()) {
    return Errno::kProto;
  }
  frame.body = decoder.get_raw(size - kHeaderSize);
  return frame;
}

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxName || name == "." || name == "..") return false;
  return name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

Errno peer_errno(uint32_t code) {
  constexpr uint32_t kLast = EHWPOISON;  // the last of errno(3)
  return code == 0 || code > kLast ? Errno::kIo : static_cast<Errno>(code);
}

}  // namespace boxrun::gofer
