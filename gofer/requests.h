// What the server does for each request. One Requests object answers one packet.
#pragma once
#include "gofer/protocol_boxrun.h"
#include "gofer/session.h"

namespace boxrun::gofer {

class Requests {
 public:
  // `out` takes the replies, `fds` the donated descriptors; `scratch` (kMaxMessage bytes) is room
  // for data on its way.
  Requests(Session& session, Encoder& out, FdList& fds, std::span<std::byte> scratch, bool donate)
      : session_(session),
        tree_(*session.tree_),
        out_(out),
        fds_(fds),
        scratch_(scratch),
        donate_(donate) {}

  enum class Outcome : uint8_t { kAnswered, kFailed, kMalformed };
  // Answers the one message, or the one batch, of a packet.
  Outcome packet(const Frame& frame);

 private:
  Outcome batch(const Frame& frame);
  Outcome one(const Frame& frame);
  Outcome change(const Frame& frame);
  Outcome extension(const Frame& frame);
  Outcome no_authentication(const Frame& frame);
  template <class Request>
  Outcome answer(const Frame& frame);
  Outcome fail(uint16_t tag, Errno error);

  template <class Request>
  using Reply = Result<typename Request::Reply>;

  // server.cpp
  Reply<Tversion> handle(const Tversion& m);
  Reply<Tflush> handle(const Tflush& m);
  Reply<Tas> handle(const Tas& m);
  // requests_walk.cpp
  Reply<Tattach> handle(const Tattach& m);
  Reply<Twalk> handle(const Twalk& m);
  Reply<Tclunk> handle(const Tclunk& m);
  Reply<Tgetattr> handle(const Tgetattr& m);
  Reply<Tstat> handle(const Tstat& m);
  Reply<Treadlink> handle(const Treadlink& m);
  Reply<Tstatfs> handle(const Tstatfs& m);
  // requests_io.cpp
  Reply<Tlopen> handle(const Tlopen& m);
  Reply<Topen> handle(const Topen& m);
  Reply<Tlcreate> handle(const Tlcreate& m);
  Reply<Tcreate> handle(const Tcreate& m);
  Reply<Tread> handle(const Tread& m);
  Reply<Twrite> handle(const Twrite& m);
  Reply<Tfsync> handle(const Tfsync& m);
  Reply<Tlock> handle(const Tlock& m);
  Reply<Tgetlock> handle(const Tgetlock& m);
  // requests_dir.cpp
  Reply<Treaddir> handle(const Treaddir& m);
  Reply<Treaddirplus> handle(const Treaddirplus& m);
  Result<bool> put_entry_plus(Encoder& list, Node& node, int directory, bool attributes,
                              DirEntryPlus out);
  // requests_watch.cpp
  Reply<Tbell> handle(const Tbell& m);
  Reply<Twatch> handle(const Twatch& m);
  Reply<Tcollect> handle(const Tcollect& m);
  // requests_change.cpp
  Reply<Tsetattr> handle(const Tsetattr& m);
  Reply<Tmkdir> handle(const Tmkdir& m);
  Reply<Tmknod> handle(const Tmknod& m);
  Reply<Tsymlink> handle(const Tsymlink& m);
  Reply<Tlink> handle(const Tlink& m);
  Reply<Tunlinkat> handle(const Tunlinkat& m);
  Reply<Tremove> handle(const Tremove& m);
  Reply<Trename> handle(const Trename& m);
  Reply<Trenameat> handle(const Trenameat& m);
  Reply<Trenameat2> handle(const Trenameat2& m);
  // requests_xattr.cpp
  Reply<Txattrwalk> handle(const Txattrwalk& m);
  Reply<Txattrcreate> handle(const Txattrcreate& m);
  Result<void> finish_xattr(Fid& fid);
  Result<size_t> read_xattr(Fid& fid, uint64_t offset, std::span<std::byte> into)
      REQUIRES(fid.mutex);

  Result<void> require_writable(const Node& node);
  // A directory to change: writable, and `name` may be made in it.
  Result<void> require_makeable(Node& directory, std::string_view name);
  uint32_t owner_of(const Fid& directory) const { return as_ == kNoUid ? directory.owner : as_; }
  Result<Qid> qid_of_name(Node& directory, std::string_view name);
  Result<UniqueFd> open_file(Node& node, uint32_t flags);
  struct Created {
    Ref<Node> node;
    UniqueFd file;
  };
  Result<Created> create_file(const Fid& directory, std::string_view name, uint32_t flags,
                              uint32_t mode, uint32_t gid);
  Result<UniqueFd> create_host_file(const Fid& directory, int at, std::string_view name,
                                    uint32_t flags, uint32_t mode, uint32_t gid);
  Result<void> remove_name(Node& directory, std::string_view name, int flags);
  Result<void> rename_name(Node& old_dir, std::string_view old_name, Node& new_dir,
                           std::string_view new_name, uint32_t flags);
  // How many bytes a data reply may carry.
  size_t data_room(uint32_t asked) const;

  Session& session_;
  Tree& tree_;
  Encoder& out_;
  FdList& fds_;
  const std::span<std::byte> scratch_;
  const bool donate_;
  uint32_t as_ = kNoUid;  // Tas
  Denial denial_;         // of the request at hand
  // What a Twalk found, for the Tstat right behind it.
  struct {
    Ref<Node> node;
    HostStat stat;
  } walked_;
};

// While this lives, files that the thread creates belong to `uid` and `gid`.
class OwnerScope {
 public:
  // EPERM when the ids cannot be had.
  static Result<OwnerScope> enter(Owners owners, uint32_t uid, uint32_t gid);
  OwnerScope(OwnerScope&& other) noexcept
      : uid_(std::exchange(other.uid_, -1)), gid_(std::exchange(other.gid_, -1)) {}
  OwnerScope& operator=(OwnerScope&&) = delete;
  ~OwnerScope();

 private:
  OwnerScope() = default;
  int uid_ = -1, gid_ = -1;  // what to go back to; -1: nothing was changed
};

}  // namespace boxrun::gofer
