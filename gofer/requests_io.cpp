// Opening, creating, reading, writing and locking files.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "gofer/requests.h"

namespace boxrun::gofer {
namespace {

// Of open(2)'s flags those that concern the file rather than the guest's descriptor. O_APPEND is
// the Sentry's business (it knows the offset), O_NOATIME would fail for files of others, O_CREAT
// and O_EXCL are Tlcreate's.
constexpr uint32_t kFileFlags = O_ACCMODE | O_TRUNC | O_SYNC;

bool writes(uint32_t flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

// The id bits of a mode would be real ones on the host, for other users to run: never set on files.
constexpr uint32_t kFileModeBits = 01777;

}  // namespace

Result<void> Requests::require_writable(const Node& node) {
  if (node.mount().access == MountAccess::kReadWrite) return {};
  return denial_.deny(Rule::kReadOnly, Errno::kRoFs);
}

Result<void> Requests::require_makeable(Node& directory, std::string_view name) {
  TRY(tree_.check_name(directory, name, Tree::Purpose::kMake, denial_));
  return require_writable(directory);
}

Result<UniqueFd> Requests::open_file(Node& node, uint32_t flags) {
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno::kInval;
  if ((flags & O_DIRECTORY) != 0 && node.type() != S_IFDIR) return Errno::kNotDir;
  if (node.type() == S_IFREG && writes(flags)) TRY(require_writable(node));
  return tree_.open(node, static_cast<int>(flags & kFileFlags), denial_);
}

Requests::Reply<Tlopen> Requests::handle(const Tlopen& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  TRY(session_.set_open(*fid, TRY(open_file(*fid->node, m.flags))));
  return Rlopen{TRY(tree_.stat(*fid->node)).attr.qid, 0};
}

Requests::Reply<Topen> Requests::handle(const Topen& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  UniqueFd file = TRY(open_file(*fid->node, m.flags));
  if (fid->node->type() == S_IFREG && donate_) {
    if (!fds_.push(std::move(file))) return Errno::kNoBufs;
    return Ropen{1};
  }
  Ref<Fid> opened = make_ref<Fid>(fid->node, fid->owner);
  TRY(session_.set_open(*opened, std::move(file)));
  TRY(session_.add(m.newfid, std::move(opened)));
  return Ropen{0};
}

Result<UniqueFd> Requests::create_host_file(const Fid& directory, int at, std::string_view name,
                                            uint32_t flags, uint32_t mode, uint32_t gid) {
  const OwnerScope owner = TRY(OwnerScope::enter(session_.owners_, owner_of(directory), gid));
  const int how = static_cast<int>(flags & kFileFlags & ~O_TRUNC) | O_CLOEXEC;
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    const int unnamed = how | O_TMPFILE | static_cast<int>(flags & O_EXCL);
    return own_fd(openat(at, ".", unnamed, mode & kFileModeBits));
  }
  // Always O_EXCL: what is there already is opened with all the checks that opening has.
  return own_fd(openat(at, std::string(name).c_str(),
                       how | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                       mode & kFileModeBits));
}

Result<Requests::Created> Requests::create_file(const Fid& directory, std::string_view name,
                                                uint32_t flags, uint32_t mode, uint32_t gid) {
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno::kInval;
  Node& node = *directory.node;
  const bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  if (unnamed) {
    if (!name.empty() || (flags & O_ACCMODE) == O_RDONLY) return Errno::kInval;
    if (node.type() != S_IFDIR) return Errno::kNotDir;
    if (!tree_.proc()) return Errno::kOpNotSupp;
    TRY(require_writable(node));
  } else {
    TRY(require_makeable(node, name));
  }
  const Pin at = TRY(tree_.pin(node));
  Result<UniqueFd> file = create_host_file(directory, at.fd(), name, flags, mode, gid);
  if (unnamed) {
    UniqueFd made = TRY(std::move(file));
    return Created{TRY(tree_.adopt_unnamed(node, made.get())), std::move(made)};
  }
  if (file.error() == Errno::kExist && (flags & O_EXCL) == 0) {
    Ref<Node> found = TRY(tree_.step(node, name, denial_));
    UniqueFd opened = TRY(open_file(*found, flags & ~uint32_t{O_DIRECTORY}));
    if (found->type() != S_IFREG) return Errno::kIsDir;
    return Created{std::move(found), std::move(opened)};
  }
  UniqueFd made = TRY(std::move(file));
  Ref<Node> found = TRY(tree_.step(node, name, denial_));
  if (found->id() != TRY(stat_fd(made.get())).id) return Errno::kStale;  // replaced by the host
  return Created{std::move(found), std::move(made)};
}

Requests::Reply<Tlcreate> Requests::handle(const Tlcreate& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  Created created = TRY(create_file(*fid, m.name, m.flags & ~uint32_t{__O_TMPFILE}, m.mode, m.gid));
  Ref<Fid> opened = make_ref<Fid>(created.node, fid->owner);
  TRY(session_.set_open(*opened, std::move(created.file)));
  TRY(session_.add_or_replace(m.fid, m.fid, std::move(opened)));
  return Rlcreate{TRY(tree_.stat(*created.node)).attr.qid, 0};
}

Requests::Reply<Tcreate> Requests::handle(const Tcreate& m) {
  if (!donate_) return Errno::kOpNotSupp;
  const Ref<Fid> fid = TRY(session_.find(m.dfid));
  if (fds_.full()) return Errno::kNoBufs;
  Created created = TRY(create_file(*fid, m.name, m.flags, m.mode, m.gid));
  const Attr attr = TRY(tree_.stat(*created.node)).attr;
  TRY(session_.add(m.newfid, make_ref<Fid>(std::move(created.node), fid->owner)));
  fds_.push(std::move(created.file));
  return Rcreate{attr};
}

size_t Requests::data_room(uint32_t asked) const {
  constexpr size_t kDataHeader =
      kHeaderSize + 1 + sizeof(uint32_t);  // of Rreaddirplus, the longest
  const size_t room = out_.room() > kDataHeader ? out_.room() - kDataHeader : 0;
  return std::min({size_t{asked}, room, scratch_.size()});
}

Requests::Reply<Tread> Requests::handle(const Tread& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const std::span<std::byte> into = scratch_.first(data_room(m.count));
  const Lock lock(fid->mutex);
  if (fid->xattr) return Rread{into.first(TRY(read_xattr(*fid, m.offset, into)))};
  if (!fid->open) return Errno::kBadF;
  if (m.offset > INT64_MAX) return Errno::kInval;
  const ssize_t got =
      pread(fid->open.get(), into.data(), into.size(), static_cast<off_t>(m.offset));
  return Rread{into.first(static_cast<size_t>(TRY(host_result(got))))};
}

Requests::Reply<Twrite> Requests::handle(const Twrite& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const Lock lock(fid->mutex);
  if (fid->xattr) {
    XattrState& xattr = *fid->xattr;
    if (!xattr.writing || m.offset != xattr.filled) return Errno::kInval;
    if (m.data.size() > xattr.value.size() - xattr.filled) return Errno::kNoSpc;
    std::ranges::copy(m.data, xattr.value.begin() + static_cast<ptrdiff_t>(xattr.filled));
    xattr.filled += m.data.size();
    return Rwrite{static_cast<uint32_t>(m.data.size())};
  }
  if (!fid->open) return Errno::kBadF;
  if (m.offset > INT64_MAX) return Errno::kInval;
  const ssize_t put =
      pwrite(fid->open.get(), m.data.data(), m.data.size(), static_cast<off_t>(m.offset));
  return Rwrite{static_cast<uint32_t>(TRY(host_result(put)))};
}

Requests::Reply<Tfsync> Requests::handle(const Tfsync& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const Lock lock(fid->mutex);
  if (!fid->open) return Errno::kBadF;
  const int fd = fid->open.get();
  if ((m.datasync != 0 ? fdatasync(fd) : fsync(fd)) < 0) return last_error();
  return Tfsync::Reply{};
}

namespace {

Result<struct flock> host_lock(LockType type, uint64_t start, uint64_t length) {
  if (start > INT64_MAX || length > INT64_MAX) return Errno::kInval;
  struct flock lock {};
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(start);
  lock.l_len = static_cast<off_t>(length);
  switch (type) {
    case LockType::kRead:
      lock.l_type = F_RDLCK;
      return lock;
    case LockType::kWrite:
      lock.l_type = F_WRLCK;
      return lock;
    case LockType::kUnlock:
      lock.l_type = F_UNLCK;
      return lock;
  }
  return Errno::kInval;
}

}  // namespace

// Locks belong to the fid's open file description: two fids are two owners, and a clunk releases.
// Waiting is the client's part, as everywhere in 9P2000.L.
Requests::Reply<Tlock> Requests::handle(const Tlock& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  struct flock lock = TRY(host_lock(m.type, m.start, m.length));
  const Lock guard(fid->mutex);
  if (!fid->open) return Errno::kBadF;
  if (fcntl(fid->open.get(), F_OFD_SETLK, &lock) == 0) return Rlock{LockStatus::kSuccess};
  if (errno == EAGAIN || errno == EACCES) return Rlock{LockStatus::kBlocked};
  return last_error();
}

Requests::Reply<Tgetlock> Requests::handle(const Tgetlock& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  struct flock lock = TRY(host_lock(m.type, m.start, m.length));
  if (m.type == LockType::kUnlock) return Errno::kInval;
  const Lock guard(fid->mutex);
  if (!fid->open) return Errno::kBadF;
  if (fcntl(fid->open.get(), F_OFD_GETLK, &lock) < 0) return last_error();
  Rgetlock reply{m.type, m.start, m.length, m.proc_id, m.client_id};
  reply.type = lock.l_type == F_UNLCK   ? LockType::kUnlock
               : lock.l_type == F_RDLCK ? LockType::kRead
                                        : LockType::kWrite;
  if (lock.l_type == F_UNLCK) return reply;
  reply.start = static_cast<uint64_t>(lock.l_start);
  reply.length = static_cast<uint64_t>(lock.l_len);
  return reply;
}

}  // namespace boxrun::gofer
