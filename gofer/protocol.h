// 9P2000.L on the wire: numbers and data types. The encoder and decoder are in protocol_codec.h,
// the messages in protocol_messages.h, protocol_io.h and protocol_boxrun.h. Layouts are those of
// diod's protocol.md and of Linux's v9fs; `9P2000.L.boxrun` and its messages are specified in
// gofer/README.md.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "src/base/result.h"

namespace boxrun::gofer {

inline constexpr std::string_view kPlainVersion = "9P2000.L";
inline constexpr std::string_view kBatchVersion = "9P2000.L.boxrun";

// What was negotiated.
enum class Dialect : uint8_t { kNone, kPlain, kBoxrun };

inline constexpr uint32_t kNoFid = 0xffffffff;
inline constexpr uint32_t kNoUid = 0xffffffff;  // n_uname of Tattach: none given
inline constexpr uint16_t kNoTag = 0xffff;
// Tags of the extension (README.md): one more than the CPU on which the client waits.
inline constexpr uint16_t kNoCpu = 0;

inline constexpr size_t kHeaderSize = 7;      // size[4] type[1] tag[2]
inline constexpr size_t kMaxMessage = 65536;  // one packet, a batch included
inline constexpr size_t kMinMessage = 4096;   // smaller offers of msize end the session
inline constexpr size_t kMaxNames = 16;       // of one Twalk, by the protocol
inline constexpr size_t kMaxName = 255;
inline constexpr size_t kMaxPath = 4095;
inline constexpr size_t kMaxBatch = 256;  // requests in one Tbatch
inline constexpr size_t kMaxFds = 16;     // descriptors with one packet

enum class Type : uint8_t {
  kTlerror = 6,  // never sent
  kRlerror = 7,
  kTstatfs = 8,
  kTlopen = 12,
  kTlcreate = 14,
  kTsymlink = 16,
  kTmknod = 18,
  kTrename = 20,
  kTreadlink = 22,
  kTgetattr = 24,
  kTsetattr = 26,
  kTxattrwalk = 30,
  kTxattrcreate = 32,
  kTreaddir = 40,
  kTfsync = 50,
  kTlock = 52,
  kTgetlock = 54,
  kTlink = 70,
  kTmkdir = 72,
  kTrenameat = 74,
  kTunlinkat = 76,
  kTversion = 100,
  kTauth = 102,
  kTattach = 104,
  kTflush = 108,
  kTwalk = 110,
  kTread = 116,
  kTwrite = 118,
  kTclunk = 120,
  kTremove = 122,
  // 9P2000.L.boxrun only.
  kTbatch = 200,
  kTas = 202,
  kTstat = 204,
  kTopen = 206,
  kTcreate = 208,
  kTreaddirplus = 210,
  kRdenied = 213,
  kTrenameat2 = 214,
  kTbell = 216,
  kTwatch = 218,
  kTcollect = 220,
};
// A reply's type is its request's plus one.
constexpr Type reply_type(Type request) {
  return static_cast<Type>(static_cast<uint8_t>(request) + 1);
}

enum class QidType : uint8_t { kFile = 0, kSymlink = 0x02, kDir = 0x80 };

// What a file is on the server: equal paths are the same file.
struct Qid {
  QidType type = QidType::kFile;
  uint32_t version = 0;  // changes when the file's contents change
  uint64_t path = 0;
  bool operator==(const Qid&) const = default;
};

struct Time {
  uint64_t sec = 0;  // two's complement: times before 1970 exist
  uint64_t nsec = 0;
  bool operator==(const Time&) const = default;
};

// Bits of Tgetattr's request mask and of Attr::valid.
inline constexpr uint64_t kAttrBasic = 0x7ff;  // what stat(2) returns
inline constexpr uint64_t kAttrBtime = 0x800;

// The body of Rgetattr.
struct Attr {
  uint64_t valid = 0;
  Qid qid;
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t nlink = 0, rdev = 0, size = 0, blksize = 0, blocks = 0;
  Time atime, mtime, ctime, btime;
  uint64_t gen = 0, data_version = 0;
  bool operator==(const Attr&) const = default;
};

// Bits of Tsetattr's valid mask.
inline constexpr uint32_t kSetMode = 0x1, kSetUid = 0x2, kSetGid = 0x4, kSetSize = 0x8,
                          kSetAtime = 0x10, kSetMtime = 0x20, kSetCtime = 0x40,
                          kSetAtimeValue = 0x80, kSetMtimeValue = 0x100;

// Tlock, Tgetlock.
enum class LockType : uint8_t { kRead = 0, kWrite = 1, kUnlock = 2 };
enum class LockStatus : uint8_t { kSuccess = 0, kBlocked = 1, kError = 2, kGrace = 3 };

// Which rule of ours denied a request (Rdenied): what the Sentry writes into the violation record.
enum class Rule : uint8_t {
  kNone = 0,
  kHidden = 1,       // a `hide` glob matches the name
  kReadOnly = 2,     // the mount is declared read-only
  kFileSystem = 3,   // proc, sysfs, cgroup and their like are never entered
  kSpecialFile = 4,  // FIFOs, devices and sockets are never opened or made
};

// Strings and byte runs of a decoded message point into the packet it was decoded from.
using Data = std::span<const std::byte>;

struct Names {
  std::array<std::string_view, kMaxNames> name;
  uint16_t count = 0;
  std::span<const std::string_view> view() const { return {name.data(), count}; }
  bool operator==(const Names& other) const;
};
struct Qids {
  std::array<Qid, kMaxNames> qid;
  uint16_t count = 0;
  std::span<const Qid> view() const { return {qid.data(), count}; }
};

// True for what may be one step of a path: no '/', no NUL, not empty, not "." or "..", at most
// kMaxName bytes. Both sides refuse everything else.
bool valid_name(std::string_view name);

// An error that a peer sent, as an errno that a guest may see: EIO for everything else, so that a
// hostile peer cannot inject our internal restart codes.
Errno peer_errno(uint32_t code);

}  // namespace boxrun::gofer
