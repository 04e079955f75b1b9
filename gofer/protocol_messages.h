// Every message of 9P2000.L that we speak, and those of 9P2000.L.boxrun. A message is a struct with
// its fields in wire order; `fields` shows them to an Encoder or a Decoder.
#pragma once
#include "gofer/protocol_codec.h"

namespace boxrun::gofer {

// Writes one whole message. False when it did not fit; what was written then is to be discarded.
template <class Message>
bool encode(Encoder& out, uint16_t tag, const Message& message) {
  const size_t start = out.size();
  out(uint32_t{0}, Message::kType, tag);
  Message::fields(message, out);
  out.patch(start, static_cast<uint32_t>(out.size() - start));
  return out.ok();
}

// EPROTO unless the frame is exactly one `Message`.
template <class Message>
Result<Message> decode(const Frame& frame) {
  if (frame.type != Message::kType) return Errno::kProto;
  Decoder decoder(frame.body);
  Message message;
  Message::fields(message, decoder);
  if (!decoder.finished()) return Errno::kProto;
  return message;
}

// Replies without fields.
template <Type kRequest>
struct Empty {
  static constexpr Type kType = reply_type(kRequest);
  static void fields(auto&, auto&) {}
};

struct Rlerror {
  static constexpr Type kType = Type::kRlerror;
  uint32_t ecode{};
  static void fields(auto& m, auto& v) { v(m.ecode); }
};

struct Rversion {
  static constexpr Type kType = reply_type(Type::kTversion);
  uint32_t msize{};
  std::string_view version;
  static void fields(auto& m, auto& v) { v(m.msize, m.version); }
};
struct Tversion {
  static constexpr Type kType = Type::kTversion;
  using Reply = Rversion;
  uint32_t msize{};
  std::string_view version;
  static void fields(auto& m, auto& v) { v(m.msize, m.version); }
};

struct Rauth {
  static constexpr Type kType = reply_type(Type::kTauth);
  Qid qid;
  static void fields(auto& m, auto& v) { v(m.qid); }
};
struct Tauth {
  static constexpr Type kType = Type::kTauth;
  using Reply = Rauth;
  uint32_t afid{};
  std::string_view uname, aname;
  uint32_t n_uname{};
  static void fields(auto& m, auto& v) { v(m.afid, m.uname, m.aname, m.n_uname); }
};

struct Rattach {
  static constexpr Type kType = reply_type(Type::kTattach);
  Qid qid;
  static void fields(auto& m, auto& v) { v(m.qid); }
};
struct Tattach {
  static constexpr Type kType = Type::kTattach;
  using Reply = Rattach;
  uint32_t fid{}, afid = kNoFid;
  std::string_view uname, aname;
  uint32_t n_uname = kNoUid;
  static void fields(auto& m, auto& v) { v(m.fid, m.afid, m.uname, m.aname, m.n_uname); }
};

struct Tflush {
  static constexpr Type kType = Type::kTflush;
  using Reply = Empty<Type::kTflush>;
  uint16_t oldtag{};
  static void fields(auto& m, auto& v) { v(m.oldtag); }
};

struct Rwalk {
  static constexpr Type kType = reply_type(Type::kTwalk);
  Qids qids;
  static void fields(auto& m, auto& v) { v(m.qids); }
};
struct Twalk {
  static constexpr Type kType = Type::kTwalk;
  using Reply = Rwalk;
  uint32_t fid{}, newfid{};
  Names names;
  static void fields(auto& m, auto& v) { v(m.fid, m.newfid, m.names); }
};

struct Tclunk {
  static constexpr Type kType = Type::kTclunk;
  using Reply = Empty<Type::kTclunk>;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};

struct Tremove {
  static constexpr Type kType = Type::kTremove;
  using Reply = Empty<Type::kTremove>;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};

struct Rstatfs {
  static constexpr Type kType = reply_type(Type::kTstatfs);
  uint32_t type{}, bsize{};
  uint64_t blocks{}, bfree{}, bavail{}, files{}, ffree{}, fsid{};
  uint32_t namelen{};
  static void fields(auto& m, auto& v) {
    v(m.type, m.bsize, m.blocks, m.bfree, m.bavail, m.files, m.ffree, m.fsid, m.namelen);
  }
};
struct Tstatfs {
  static constexpr Type kType = Type::kTstatfs;
  using Reply = Rstatfs;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};

struct Rlopen {
  static constexpr Type kType = reply_type(Type::kTlopen);
  Qid qid;
  uint32_t iounit{};
  static void fields(auto& m, auto& v) { v(m.qid, m.iounit); }
};
struct Tlopen {
  static constexpr Type kType = Type::kTlopen;
  using Reply = Rlopen;
  uint32_t fid{}, flags{};  // open(2) flags as on x86
  static void fields(auto& m, auto& v) { v(m.fid, m.flags); }
};

struct Rlcreate {
  static constexpr Type kType = reply_type(Type::kTlcreate);
  Qid qid;
  uint32_t iounit{};
  static void fields(auto& m, auto& v) { v(m.qid, m.iounit); }
};
struct Tlcreate {  // fid is the directory before, the open file afterwards
  static constexpr Type kType = Type::kTlcreate;
  using Reply = Rlcreate;
  uint32_t fid{};
  std::string_view name;
  uint32_t flags{}, mode{}, gid{};
  static void fields(auto& m, auto& v) { v(m.fid, m.name, m.flags, m.mode, m.gid); }
};

// Tsymlink, Tmknod and Tmkdir answer with the qid of what they made.
template <Type kRequest>
struct RQid {
  static constexpr Type kType = reply_type(kRequest);
  Qid qid;
  static void fields(auto& m, auto& v) { v(m.qid); }
};
struct Tsymlink {
  static constexpr Type kType = Type::kTsymlink;
  using Reply = RQid<Type::kTsymlink>;
  uint32_t dfid{};
  std::string_view name, target;
  uint32_t gid{};
  static void fields(auto& m, auto& v) { v(m.dfid, m.name, m.target, m.gid); }
};
struct Tmknod {
  static constexpr Type kType = Type::kTmknod;
  using Reply = RQid<Type::kTmknod>;
  uint32_t dfid{};
  std::string_view name;
  uint32_t mode{}, major{}, minor{}, gid{};
  static void fields(auto& m, auto& v) { v(m.dfid, m.name, m.mode, m.major, m.minor, m.gid); }
};
struct Tmkdir {
  static constexpr Type kType = Type::kTmkdir;
  using Reply = RQid<Type::kTmkdir>;
  uint32_t dfid{};
  std::string_view name;
  uint32_t mode{}, gid{};
  static void fields(auto& m, auto& v) { v(m.dfid, m.name, m.mode, m.gid); }
};

struct Trename {
  static constexpr Type kType = Type::kTrename;
  using Reply = Empty<Type::kTrename>;
  uint32_t fid{}, dfid{};
  std::string_view name;
  static void fields(auto& m, auto& v) { v(m.fid, m.dfid, m.name); }
};
struct Trenameat {
  static constexpr Type kType = Type::kTrenameat;
  using Reply = Empty<Type::kTrenameat>;
  uint32_t olddirfid{};
  std::string_view oldname;
  uint32_t newdirfid{};
  std::string_view newname;
  static void fields(auto& m, auto& v) { v(m.olddirfid, m.oldname, m.newdirfid, m.newname); }
};
struct Tunlinkat {
  static constexpr Type kType = Type::kTunlinkat;
  using Reply = Empty<Type::kTunlinkat>;
  uint32_t dirfid{};
  std::string_view name;
  uint32_t flags{};  // AT_REMOVEDIR
  static void fields(auto& m, auto& v) { v(m.dirfid, m.name, m.flags); }
};
struct Tlink {
  static constexpr Type kType = Type::kTlink;
  using Reply = Empty<Type::kTlink>;
  uint32_t dfid{}, fid{};
  std::string_view name;
  static void fields(auto& m, auto& v) { v(m.dfid, m.fid, m.name); }
};

struct Rreadlink {
  static constexpr Type kType = reply_type(Type::kTreadlink);
  std::string_view target;
  static void fields(auto& m, auto& v) { v(m.target); }
};
struct Treadlink {
  static constexpr Type kType = Type::kTreadlink;
  using Reply = Rreadlink;
  uint32_t fid{};
  static void fields(auto& m, auto& v) { v(m.fid); }
};

}  // namespace boxrun::gofer
