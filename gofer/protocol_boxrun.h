// The messages that only 9P2000.L.boxrun has (README.md, "The extension").
#pragma once
#include "gofer/protocol_io.h"

namespace boxrun::gofer {

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
  uint8_t attributes{};  // 1: with what is known of each file, which is then looked at
  static void fields(auto& m, auto& v) { v(m.fid, m.offset, m.count, m.attributes); }
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

// A descriptor comes along that polls as readable while changes wait to be collected (Watches).
struct Tbell {
  static constexpr Type kType = Type::kTbell;
  using Reply = Empty<Type::kTbell>;
  static void fields(auto&, auto&) {}
};
// Changes in the directory fid ring the bell from now on; `watched` 0: they cannot.
struct Rwatch {
  static constexpr Type kType = reply_type(Type::kTwatch);
  uint8_t watched{};
  static void fields(auto& m, auto& v) { v(m.watched); }
};
struct Twatch {
  static constexpr Type kType = Type::kTwatch;
  using Reply = Rwatch;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};
// The client has forgotten what it knew before this request: the bell may stop.
struct Tcollect {
  static constexpr Type kType = Type::kTcollect;
  using Reply = Empty<Type::kTcollect>;
  static void fields(auto&, auto&) {}
};

// What is inside Rreaddirplus; `type` and `offset` as of a DirEntry.
inline constexpr uint8_t kHiddenEntry = 255;  // DirEntryPlus::type: withheld, for the record only
struct DirEntryPlus {
  uint64_t offset{};
  uint8_t type{};
  uint64_t path{};  // of the qid
  std::string_view name;
  uint8_t known{};  // 0: the rest is not there; look the name up
  Attr attr;
  std::string_view target;
  static void fields(auto& m, auto& v) {
    v(m.offset, m.type, m.path, m.name, m.known);
    if (m.known != 0) v(m.attr, m.target);
  }
};

}  // namespace boxrun::gofer
