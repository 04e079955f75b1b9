// The second half of the messages.
#pragma once
#include "gofer/protocol_messages.h"

namespace boxrun::gofer {

struct Rgetattr {
  static constexpr Type kType = reply_type(Type::kTgetattr);
  Attr attr;
  static void fields(auto& m, auto& v) { v(m.attr); }
};
struct Tgetattr {
  static constexpr Type kType = Type::kTgetattr;
  using Reply = Rgetattr;
  uint32_t fid{};
  uint64_t mask = kAttrBasic;
  static void fields(auto& m, auto& v) { v(m.fid, m.mask); }
};
struct Tsetattr {
  static constexpr Type kType = Type::kTsetattr;
  using Reply = Empty<Type::kTsetattr>;
  uint32_t fid{}, valid{}, mode{}, uid{}, gid{};
  uint64_t size{};
  Time atime, mtime;
  static void fields(auto& m, auto& v) {
    v(m.fid, m.valid, m.mode, m.uid, m.gid, m.size, m.atime, m.mtime);
  }
};

struct Rxattrwalk {
  static constexpr Type kType = reply_type(Type::kTxattrwalk);
  uint64_t size{};
  static void fields(auto& m, auto& v) { v(m.size); }
};
struct Txattrwalk {  // newfid reads the value; an empty name reads the list of names
  static constexpr Type kType = Type::kTxattrwalk;
  using Reply = Rxattrwalk;
  uint32_t fid{}, newfid{};
  std::string_view name;
  static void fields(auto& m, auto& v) { v(m.fid, m.newfid, m.name); }
};
// A flag of Txattrcreate beside those of setxattr(2). Plain 9P2000.L takes a size of 0 for removal,
// so it cannot set an empty value; a boxrun session removes only with this flag.
inline constexpr uint32_t kXattrRemove = 0x80000000;
struct Txattrcreate {  // what is written to fid becomes the value at Tclunk
  static constexpr Type kType = Type::kTxattrcreate;
  using Reply = Empty<Type::kTxattrcreate>;
  uint32_t fid{};
  std::string_view name;
  uint64_t size{};
  uint32_t flags{};
  static void fields(auto& m, auto& v) { v(m.fid, m.name, m.size, m.flags); }
};

// Replies that are one run of bytes.
template <Type kRequest>
struct RData {
  static constexpr Type kType = reply_type(kRequest);
  Data data;
  static void fields(auto& m, auto& v) { v(m.data); }
};
using Rread = RData<Type::kTread>;
using Rreaddir = RData<Type::kTreaddir>;
struct Treaddir {
  static constexpr Type kType = Type::kTreaddir;
  using Reply = Rreaddir;
  uint32_t fid{};
  uint64_t offset{};
  uint32_t count{};
  static void fields(auto& m, auto& v) { v(m.fid, m.offset, m.count); }
};
// What is inside Rreaddir. `type` is a DT_ value, `offset` where the next read
// continues.
struct DirEntry {
  Qid qid;
  uint64_t offset{};
  uint8_t type{};
  std::string_view name;
  static void fields(auto& m, auto& v) { v(m.qid, m.offset, m.type, m.name); }
};

struct Tread {
  static constexpr Type kType = Type::kTread;
  using Reply = Rread;
  uint32_t fid{};
  uint64_t offset{};
  uint32_t count{};
  static void fields(auto& m, auto& v) { v(m.fid, m.offset, m.count); }
};

struct Rwrite {
  static constexpr Type kType = reply_type(Type::kTwrite);
  uint32_t count{};
  static void fields(auto& m, auto& v) { v(m.count); }
};
struct Twrite {
  static constexpr Type kType = Type::kTwrite;
  using Reply = Rwrite;
  uint32_t fid{};
  uint64_t offset{};
  Data data;
  static void fields(auto& m, auto& v) { v(m.fid, m.offset, m.data); }
};
struct Tfsync {
  static constexpr Type kType = Type::kTfsync;
  using Reply = Empty<Type::kTfsync>;
  uint32_t fid{}, datasync{};
  static void fields(auto& m, auto& v) { v(m.fid, m.datasync); }
};

struct Rlock {
  static constexpr Type kType = reply_type(Type::kTlock);
  LockStatus status{};
  static void fields(auto& m, auto& v) { v(m.status); }
};
struct Tlock {
  static constexpr Type kType = Type::kTlock;
  using Reply = Rlock;
  uint32_t fid{};
  LockType type{};
  uint32_t flags{};
  uint64_t start{}, length{};  // length 0: to the end of the file
  uint32_t proc_id{};
  std::string_view client_id;
  static void fields(auto& m, auto& v) {
    v(m.fid, m.type, m.flags, m.start, m.length, m.proc_id, m.client_id);
  }
};
struct Rgetlock {
  static constexpr Type kType = reply_type(Type::kTgetlock);
  LockType type{};
  uint64_t start{}, length{};
  uint32_t proc_id{};
  std::string_view client_id;
  static void fields(auto& m, auto& v) { v(m.type, m.start, m.length, m.proc_id, m.client_id); }
};
struct Tgetlock {
  static constexpr Type kType = Type::kTgetlock;
  using Reply = Rgetlock;
  uint32_t fid{};
  LockType type{};
  uint64_t start{}, length{};
  uint32_t proc_id{};
  std::string_view client_id;
  static void fields(auto& m, auto& v) {
    v(m.fid, m.type, m.start, m.length, m.proc_id, m.client_id);
  }
};

}  // namespace boxrun::gofer
