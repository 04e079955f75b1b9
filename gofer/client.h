// The Sentry's side of the Gofer connection. It only sends and receives on channels that it was
// given, so it works in a process that can open, execute and fork nothing.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gofer/channel.h"
#include "gofer/protocol_boxrun.h"
#include "src/base/bytes.h"
#include "src/base/sync.h"

namespace boxrun::gofer {

class Client;
class Exchange;

// A fid that the client owns; dropped, it is clunked together with some later request.
class RemoteFid {
 public:
  RemoteFid() = default;
  RemoteFid(RemoteFid&& other) noexcept
      : client_(std::exchange(other.client_, nullptr)), number_(other.number_) {}
  RemoteFid& operator=(RemoteFid&& other) noexcept {
    std::swap(client_, other.client_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~RemoteFid();
  uint32_t number() const { return number_; }
  explicit operator bool() const { return client_ != nullptr; }
  // The server has forgotten it already.
  void forget() { client_ = nullptr; }

 private:
  friend class Client;
  RemoteFid(Client& client, uint32_t number) : client_(&client), number_(number) {}
  Client* client_ = nullptr;  // outlives all its fids
  uint32_t number_ = kNoFid;
};

// A file that was found or made.
struct RemoteFile {
  RemoteFid fid;
  Attr attr;
  std::string target;  // of a symbolic link
};

// A file that was opened: its own descriptor, or (directories; plain 9P peers) an open fid.
struct RemoteOpen {
  UniqueFd file;
  RemoteFid fid;
};

// An error of the server's, and whether it was a rule of ours (for the violation record).
struct ServerError {
  Errno error = Errno::kOk;
  Rule rule = Rule::kNone;
};

struct DirectoryEntry {
  std::string name;
  uint64_t offset = 0;  // where the next read continues
  uint8_t type = 0;     // DT_
  bool hidden = false;  // not for the guest
  uint64_t ino = 0;
  std::optional<Attr>
      attr;  // if asked for; not from plain 9P peers, nor of what cannot be looked at
  std::string target;
};
// Attributes cost the Gofer a look at every file.
enum class Listed : uint8_t { kNames, kAttributes };

struct DirectoryPage {
  std::vector<DirectoryEntry> entries;
  bool end = false;
};

// What a walk may bring along.
struct WalkExtras {
  std::optional<uint32_t> open_flags;  // open the last file
  bool stat_start = false;             // the attributes of where it starts
  // --- boxrun only
  // Read the first entries of the directory that is reached after this many names.
  std::optional<size_t> list_after;
  Listed listed = Listed::kNames;  // what of them
  bool collect = false;            // before everything else: Client::bell()
  bool watch_start = false;        // before the walk, watch the directory where it starts
};

// How far a walk came. `steps` are the files found, in order. `failure` says why it stopped before
// the last name, or at opening it; a walk into a symbolic link ends with ENOTDIR after that link.
struct WalkReply {
  std::vector<RemoteFile> steps;
  ServerError failure;
  RemoteOpen opened;
  std::optional<Attr> start;
  std::optional<DirectoryPage> listing;
  bool watched = false;
};

// Who owns what is made, for servers that can act on it.
struct Owner {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct NewAttr {
  uint32_t valid = 0;  // kSetMode and so on
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t size = 0;
  Time atime, mtime;
};

// Thread-safe: as many requests are in flight as there are channels, more wait for a free one. When
// the Gofer dies or breaks the protocol every call, also those that wait, fails with EIO, for good.
//
// Every call is one round trip with a boxrun peer. With a plain 9P2000.L peer a chain of n requests
// is n round trips. `failure`, where there is one, gets the details of an error.
class Client {
 public:
  // Negotiates on the first channel. All channels belong to one session of the server. EPROTO when
  // the peer speaks neither dialect.
  static Result<std::unique_ptr<Client>> connect(std::vector<std::unique_ptr<Channel>> channels,
                                                 Dialect wanted = Dialect::kBoxrun);
  ~Client();

  Dialect dialect() const { return dialect_; }
  // Packets sent so far: tests assert what an operation costs.
  uint64_t round_trips() const { return round_trips_.load(std::memory_order_relaxed); }
  bool dead() const { return dead_.load(std::memory_order_relaxed); }

  Result<RemoteFile> attach(std::string_view mount, uint32_t uid, ServerError* failure = nullptr);
  // A descriptor that polls as readable from the moment that somebody else changes something in a
  // watched directory until a walk collects. EOPNOTSUPP where changes cannot be watched.
  Result<UniqueFd> bell();
  // Walks `names` from `from`. The error of the Result is only for a dead peer.
  Result<WalkReply> walk(uint32_t from, std::span<const std::string_view> names,
                         const WalkExtras& extras = {});
  Result<RemoteFile> stat(uint32_t fid);  // without a fid of its own
  Result<RemoteOpen> open(uint32_t fid, uint32_t flags, ServerError* failure = nullptr);
  Result<Rstatfs> statfs(uint32_t fid);
  Result<std::string> readlink(uint32_t fid);

  struct Created {
    RemoteFile found;
    RemoteOpen opened;
  };
  // O_EXCL in flags is obeyed; without it an existing regular file is opened. `opened` is empty
  // when the file was made, but this process may have no more descriptors.
  Result<Created> create(uint32_t directory, std::string_view name, uint32_t flags, uint32_t mode,
                         Owner owner, ServerError* failure = nullptr);
  Result<RemoteFile> mkdir(uint32_t directory, std::string_view name, uint32_t mode, Owner owner,
                           ServerError* failure = nullptr);
  Result<RemoteFile> mknod(uint32_t directory, std::string_view name, uint32_t mode, uint64_t rdev,
                           Owner owner, ServerError* failure = nullptr);
  Result<RemoteFile> symlink(uint32_t directory, std::string_view name, std::string_view target,
                             Owner owner, ServerError* failure = nullptr);
  Result<void> link(uint32_t directory, uint32_t file, std::string_view name,
                    ServerError* failure = nullptr);
  Result<void> unlink(uint32_t directory, std::string_view name, uint32_t flags,
                      ServerError* failure = nullptr);
  // `flags` of renameat2(2); a plain peer knows none: EINVAL.
  Result<void> rename(uint32_t old_dir, std::string_view old_name, uint32_t new_dir,
                      std::string_view new_name, uint32_t flags, ServerError* failure = nullptr);
  // Returns the attributes afterwards.
  Result<Attr> set_attr(uint32_t fid, const NewAttr& attr, ServerError* failure = nullptr);

  // The next entries of the open directory `fid`, "." and ".." excluded.
  Result<DirectoryPage> read_directory(uint32_t fid, uint64_t offset, Listed what);
  // Opens `directory` and reads its first entries, in one round trip; the fid is for more.
  struct OpenedDirectory {
    RemoteFid fid;
    DirectoryPage page;
  };
  Result<OpenedDirectory> list(uint32_t directory, Listed what, ServerError* failure = nullptr);

  // For open fids whose file was not donated. At least one byte unless at the end of the file.
  Result<size_t> read(uint32_t fid, uint64_t offset, IoBuffers& into);
  Result<size_t> write(uint32_t fid, uint64_t offset, IoBuffers& from);
  Result<void> fsync(uint32_t fid, bool data_only);
  // Never waits: kBlocked when somebody else has it. `length` 0 is to the end of the file.
  Result<LockStatus> lock(uint32_t fid, LockType type, uint64_t start, uint64_t length);

  // Of an unopened fid. `name` empty: the list of names, each with its NUL.
  Result<std::vector<std::byte>> get_xattr(uint32_t fid, std::string_view name);
  Result<void> set_xattr(uint32_t fid, std::string_view name, Data value, uint32_t flags,
                         ServerError* failure = nullptr);
  Result<void> remove_xattr(uint32_t fid, std::string_view name, ServerError* failure = nullptr);

 private:
  friend class Exchange;
  friend class RemoteFid;
  struct Line;  // a channel with its buffers

  explicit Client(std::vector<std::unique_ptr<Channel>> channels);
  Result<void> negotiate(Dialect wanted);
  // Rather one whose server thread is on that CPU (kNoCpu: any).
  Result<Line*> take_line(uint16_t cpu);
  void give_back(Line* line);
  void die();

  uint32_t new_fid();
  void unused(uint32_t fid);  // a number that the server never learnt of, or has forgotten
  void clunk_later(uint32_t fid);
  std::vector<uint32_t> take_clunks(size_t at_most);
  class WalkChain;
  Result<WalkReply> walk_some(uint32_t from, std::span<const std::string_view> names,
                              const WalkExtras& extras);
  Result<Created> create_plain(const Tcreate& request, ServerError* failure);
  Result<void> take_open(Exchange& exchange, uint32_t fid, RemoteOpen& opened);
  Result<DirectoryPage> take_page(Exchange& exchange);
  Result<void> write_xattr(const Txattrcreate& request, uint32_t fid, Data value,
                           ServerError* failure);
  template <class Request>
  Result<void> change(const Request& request, ServerError* failure);
  template <class Request>
  Result<RemoteFile> make(const Request& request, Owner owner, ServerError* failure);

  Dialect dialect_ = Dialect::kNone;
  uint32_t msize_ = kMaxMessage;
  std::atomic<uint64_t> round_trips_{0};
  std::atomic<bool> dead_{false};
  std::vector<std::unique_ptr<Line>> lines_;  // fixed after connect

  Mutex mutex_{Rank::kGofer};
  CondVar line_free_;
  std::vector<Line*> free_lines_ GUARDED_BY(mutex_);
  uint32_t next_fid_ GUARDED_BY(mutex_) = 0;
  std::vector<uint32_t> free_fids_ GUARDED_BY(mutex_);
  std::vector<uint32_t> clunks_ GUARDED_BY(mutex_);  // to be sent with the next packet
};

}  // namespace boxrun::gofer
