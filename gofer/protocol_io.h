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

// --- 9P2000.L.boxrun (gofer/README.md)

// In place of Rlerror when a rule of ours denied the request.
struct Rdenied {
  static constexpr Type kType = Type::kRdenied;
  uint32_t ecode{};
  Rule rule{};
  static void fields(auto& m, auto& v) { v(m.ecode, m.rule); }
};

// The owner of what the rest of this batch creates.
struct Tas {
  static constexpr Type kType = Type::kTas;
  using Reply = Empty<Type::kTas>;
  uint32_t uid{};
  static void fields(auto& m, auto& v) { v(m.uid); }
};

// Attributes, and the text of a symbolic link (empty for everything else).
struct Rstat {
  static constexpr Type kType = reply_type(Type::kTstat);
  Attr attr;
  std::string_view target;
  static void fields(auto& m, auto& v) { v(m.attr, m.target); }
};
struct Tstat {
  static constexpr Type kType = Type::kTstat;
  using Reply = Rstat;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};

// Opens fid. A regular file is donated: its descriptor travels with the packet, the server keeps
// nothing and newfid stays unused. Of anything else newfid becomes the open fid.
struct Ropen {
  static constexpr Type kType = reply_type(Type::kTopen);
  uint8_t donated{};
  static void fields(auto& m, auto& v) { v(m.donated); }
};
struct Topen {
  static constexpr Type kType = Type::kTopen;
  using Reply = Ropen;
  uint32_t fid{}, newfid{}, flags{};
  static void fields(auto& m, auto& v) { v(m.fid, m.newfid, m.flags); }
};

// Creates a regular file in dfid and donates it; newfid becomes its (not open) fid. With O_TMPFILE
// in flags the name must be empty.
struct Rcreate {
  static constexpr Type kType = reply_type(Type::kTcreate);
  Attr attr;
  static void fields(auto& m, auto& v) { v(m.attr); }
};
struct Tcreate {
  static constexpr Type kType = Type::kTcreate;
  using Reply = Rcreate;
  uint32_t dfid{}, newfid{};
  std::string_view name;
  uint32_t flags{}, mode{}, gid{};
  static void fields(auto& m, auto& v) { v(m.dfid, m.newfid, m.name, m.flags, m.mode, m.gid); }
};

struct Rreaddirplus {
  static constexpr Type kType = reply_type(Type::kTreaddirplus);
  uint8_t end{};  // there are no more entries
  Data data;
  static void fields(auto& m, auto& v) { v(m.end, m.data); }
};
struct Treaddirplus {
  static constexpr Type kType = Type::kTreaddirplus;
  using Reply = Rreaddirplus;
  uint32_t fid{};
  uint64_t offset{};
  uint32_t count{};
  static void fields(auto& m, auto& v) { v(m.fid, m.offset, m.count); }
};

// Trenameat with the flags of renameat2(2): RENAME_NOREPLACE or RENAME_EXCHANGE.
struct Trenameat2 {
  static constexpr Type kType = Type::kTrenameat2;
  using Reply = Empty<Type::kTrenameat2>;
  uint32_t olddirfid{};
  std::string_view oldname;
  uint32_t newdirfid{};
  std::string_view newname;
  uint32_t flags{};
  static void fields(auto& m, auto& v) {
    v(m.olddirfid, m.oldname, m.newdirfid, m.newname, m.flags);
  }
};

// What is inside Rreaddir and Rreaddirplus. `type` is a DT_ value, `offset` where the next read
// continues.
struct DirEntry {
  Qid qid;
  uint64_t offset{};
  uint8_t type{};
  std::string_view name;
  static void fields(auto& m, auto& v) { v(m.qid, m.offset, m.type, m.name); }
};
inline constexpr uint8_t kHiddenEntry = 255;  // DirEntryPlus::type: withheld, for the record only
struct DirEntryPlus {
  uint64_t offset{};
  uint8_t type{};
  std::string_view name;
  Attr attr;  // valid == 0: not known, look the name up
  std::string_view target;
  static void fields(auto& m, auto& v) { v(m.offset, m.type, m.name, m.attr, m.target); }
};

}  // namespace boxrun::gofer
