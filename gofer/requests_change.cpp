// Changing attributes and names.
#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "gofer/requests.h"

namespace boxrun::gofer {
namespace {

// See kFileModeBits in requests_io.cpp; on directories set-group-id only means inheritance.
mode_t allowed_mode(uint32_t mode, mode_t type) {
  return mode & (type == S_IFDIR ? 03777U : 01777U);
}

Result<timespec> time_to_set(uint32_t valid, uint32_t set, uint32_t value, Time time) {
  if ((valid & set) == 0) return timespec{0, UTIME_OMIT};
  if ((valid & value) == 0) return timespec{0, UTIME_NOW};
  if (time.nsec >= 1000000000) return Errno::kInval;
  return timespec{static_cast<time_t>(time.sec), static_cast<long>(time.nsec)};
}

}  // namespace

Result<OwnerScope> OwnerScope::enter(Owners owners, uint32_t uid, uint32_t gid) {
  OwnerScope scope;
  if (owners == Owners::kOwn) return scope;
  // Both calls only return what was there before; asking again with -1 tells whether it worked
  // (setfsuid(2)).
  if (gid != kNoUid) {
    scope.gid_ = setfsgid(gid);
    if (static_cast<uint32_t>(setfsgid(kNoUid)) != gid) return Errno::kPerm;
  }
  if (uid != kNoUid) {
    scope.uid_ = setfsuid(uid);
    if (static_cast<uint32_t>(setfsuid(kNoUid)) != uid) return Errno::kPerm;
  }
  return scope;
}

OwnerScope::~OwnerScope() {
  if (uid_ != -1) setfsuid(static_cast<uid_t>(uid_));
  if (gid_ != -1) setfsgid(static_cast<gid_t>(gid_));
}

Requests::Reply<Tsetattr> Requests::handle(const Tsetattr& m) {
  constexpr uint32_t kKnown = 0x1ff;
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  if ((m.valid & ~kKnown) != 0) return Errno::kInval;
  Node& node = *fid->node;
  TRY(require_writable(node));
  const Pin pin = TRY(tree_.pin(node));
  // A change of owner clears mode bits, so it comes first (chown(2)).
  if ((m.valid & (kSetUid | kSetGid)) != 0) {
    TRY(change_owner(pin.fd(), (m.valid & kSetUid) != 0 ? m.uid : kNoUid,
                     (m.valid & kSetGid) != 0 ? m.gid : kNoUid));
  }
  if ((m.valid & kSetMode) != 0) {
    TRY(tree_.proc().change_mode(pin.fd(), allowed_mode(m.mode, node.type())));
  }
  if ((m.valid & kSetSize) != 0) {
    if (m.size > INT64_MAX) return Errno::kInval;
    if (node.type() != S_IFREG) return node.type() == S_IFDIR ? Errno::kIsDir : Errno::kInval;
    const UniqueFd file = TRY(tree_.open(node, O_WRONLY, denial_));
    if (ftruncate(file.get(), static_cast<off_t>(m.size)) < 0) return last_error();
  }
  if ((m.valid & (kSetAtime | kSetMtime)) != 0) {
    const timespec times[2] = {TRY(time_to_set(m.valid, kSetAtime, kSetAtimeValue, m.atime)),
                               TRY(time_to_set(m.valid, kSetMtime, kSetMtimeValue, m.mtime))};
    TRY(change_times(pin.fd(), times));
  } else if ((m.valid & kSetCtime) != 0) {
    TRY(change_owner(pin.fd(), kNoUid, kNoUid));  // touches nothing but ctime
  }
  return Tsetattr::Reply{};
}

Result<Qid> Requests::qid_of_name(Node& directory, std::string_view name) {
  const Ref<Node> made = TRY(tree_.step(directory, name, denial_));
  return TRY(tree_.stat(*made)).attr.qid;
}

Requests::Reply<Tmkdir> Requests::handle(const Tmkdir& m) {
  const Ref<Fid> fid = TRY(session_.find(m.dfid));
  TRY(require_makeable(*fid->node, m.name));
  const Pin pin = TRY(tree_.pin(*fid->node));
  {
    const OwnerScope owner = TRY(OwnerScope::enter(session_.owners_, owner_of(*fid), m.gid));
    if (mkdirat(pin.fd(), std::string(m.name).c_str(), m.mode & 01777) < 0) return last_error();
  }
  return RQid<Type::kTmkdir>{TRY(qid_of_name(*fid->node, m.name))};
}

Requests::Reply<Tmknod> Requests::handle(const Tmknod& m) {
  const Ref<Fid> fid = TRY(session_.find(m.dfid));
  TRY(require_makeable(*fid->node, m.name));
  const mode_t type = (m.mode & S_IFMT) == 0 ? S_IFREG : m.mode & S_IFMT;
  if (type == S_IFCHR || type == S_IFBLK) return denial_.deny(Rule::kSpecialFile, Errno::kPerm);
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) return Errno::kInval;
  const Pin pin = TRY(tree_.pin(*fid->node));
  {
    const OwnerScope owner = TRY(OwnerScope::enter(session_.owners_, owner_of(*fid), m.gid));
    const mode_t mode = type | (m.mode & 01777);
    if (mknodat(pin.fd(), std::string(m.name).c_str(), mode, 0) < 0) return last_error();
  }
  return RQid<Type::kTmknod>{TRY(qid_of_name(*fid->node, m.name))};
}

Requests::Reply<Tsymlink> Requests::handle(const Tsymlink& m) {
  const Ref<Fid> fid = TRY(session_.find(m.dfid));
  TRY(require_makeable(*fid->node, m.name));
  if (m.target.size() > kMaxPath) return Errno::kNameTooLong;
  if (m.target.find('\0') != std::string_view::npos) return Errno::kInval;
  const Pin pin = TRY(tree_.pin(*fid->node));
  {
    const OwnerScope owner = TRY(OwnerScope::enter(session_.owners_, owner_of(*fid), m.gid));
    const std::string target(m.target), name(m.name);
    if (symlinkat(target.c_str(), pin.fd(), name.c_str()) < 0) return last_error();
  }
  return RQid<Type::kTsymlink>{TRY(qid_of_name(*fid->node, m.name))};
}

Requests::Reply<Tlink> Requests::handle(const Tlink& m) {
  const Ref<Fid> directory = TRY(session_.find(m.dfid));
  const Ref<Fid> file = TRY(session_.find(m.fid));
  TRY(require_makeable(*directory->node, m.name));
  if (&directory->node->mount() != &file->node->mount()) return Errno::kXDev;
  if (file->node->type() == S_IFDIR) return Errno::kPerm;
  const Pin at = TRY(tree_.pin(*directory->node));
  const Pin from = TRY(tree_.pin(*file->node));
  TRY(tree_.proc().link(from.fd(), at.fd(), std::string(m.name).c_str()));
  return Tlink::Reply{};
}

Result<void> Requests::remove_name(Node& directory, std::string_view name, int flags) {
  TRY(tree_.check_name(directory, name, Tree::Purpose::kFind, denial_));
  TRY(require_writable(directory));
  // Fids of it stay usable, as descriptors of a removed file do.
  const Ref<Node> known = tree_.known(directory, name);
  Pin keep;
  if (known) {
    Result<Pin> pin = tree_.pin(*known);
    if (pin.ok()) keep = std::move(pin).take();
  }
  const Pin at = TRY(tree_.pin(directory));
  if (unlinkat(at.fd(), std::string(name).c_str(), flags) < 0) return last_error();
  tree_.removed(directory, name);
  return {};
}

Requests::Reply<Tunlinkat> Requests::handle(const Tunlinkat& m) {
  const Ref<Fid> fid = TRY(session_.find(m.dirfid));
  if ((m.flags & ~uint32_t{AT_REMOVEDIR}) != 0) return Errno::kInval;
  TRY(remove_name(*fid->node, m.name, static_cast<int>(m.flags)));
  return Tunlinkat::Reply{};
}

Requests::Reply<Tremove> Requests::handle(const Tremove& m) {
  const Ref<Fid> fid = TRY(session_.remove(m.fid));  // also when removing fails: remove(5)
  const Tree::Place place = TRY(tree_.place(*fid->node));
  const Ref<Node> now = TRY(tree_.step(*place.directory, place.name, denial_));
  if (now.get() != fid->node.get()) return Errno::kStale;
  const int flags = now->type() == S_IFDIR ? AT_REMOVEDIR : 0;
  TRY(remove_name(*place.directory, place.name, flags));
  return Tremove::Reply{};
}

Result<void> Requests::rename_name(Node& old_dir, std::string_view old_name, Node& new_dir,
                                   std::string_view new_name, uint32_t flags) {
  TRY(tree_.check_name(old_dir, old_name, Tree::Purpose::kFind, denial_));
  TRY(tree_.check_name(new_dir, new_name, Tree::Purpose::kMake, denial_));
  if (&old_dir.mount() != &new_dir.mount()) return Errno::kXDev;
  TRY(require_writable(old_dir));
  if ((flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE}) != 0) return Errno::kInval;
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  const Ref<Node> moved = TRY(tree_.step(old_dir, old_name, denial_));
  const Ref<Node> there =
      exchange ? TRY(tree_.step(new_dir, new_name, denial_)) : tree_.known(new_dir, new_name);
  // A directory must not take hidden files to where no pattern finds them. mv(1) takes this errno
  // for "copy instead", and a copy does not have them.
  if (!tree_.may_move(*moved, new_dir, new_name)) return Errno::kXDev;
  if (exchange && !tree_.may_move(*there, old_dir, old_name)) return Errno::kXDev;
  Pin keep;
  if (there) {
    Result<Pin> pin = tree_.pin(*there);
    if (pin.ok()) keep = std::move(pin).take();
  }
  const Pin from = TRY(tree_.pin(old_dir));
  const Pin to = TRY(tree_.pin(new_dir));
  // glibc's renameat2(3) without flags is renameat(2), which the filter does not have.
  if (syscall(SYS_renameat2, from.fd(), std::string(old_name).c_str(), to.fd(),
              std::string(new_name).c_str(), flags) < 0) {
    return last_error();
  }
  exchange ? tree_.exchanged(old_dir, old_name, new_dir, new_name)
           : tree_.renamed(old_dir, old_name, new_dir, new_name);
  return {};
}

Requests::Reply<Trename> Requests::handle(const Trename& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const Ref<Fid> to = TRY(session_.find(m.dfid));
  const Tree::Place from = TRY(tree_.place(*fid->node));
  TRY(rename_name(*from.directory, from.name, *to->node, m.name, 0));
  return Trename::Reply{};
}

Requests::Reply<Trenameat> Requests::handle(const Trenameat& m) {
  const Ref<Fid> from = TRY(session_.find(m.olddirfid));
  const Ref<Fid> to = TRY(session_.find(m.newdirfid));
  TRY(rename_name(*from->node, m.oldname, *to->node, m.newname, 0));
  return Trenameat::Reply{};
}

Requests::Reply<Trenameat2> Requests::handle(const Trenameat2& m) {
  const Ref<Fid> from = TRY(session_.find(m.olddirfid));
  const Ref<Fid> to = TRY(session_.find(m.newdirfid));
  TRY(rename_name(*from->node, m.oldname, *to->node, m.newname, m.flags));
  return Trenameat2::Reply{};
}

}  // namespace boxrun::gofer
