// Attributes, extended attributes and open files of tmpfs; its directories are in tmp_fs.cpp.
#include <fcntl.h>
#include <linux/falloc.h>

#include <utility>

#include "sentry/fs/tmp_fs.h"
#include "sentry/vfs/access.h"

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

namespace boxrun::fs {
namespace {

constexpr Nanos kDay = kSecond * 24 * 3600;
constexpr size_t kMaxXattrs = 1024;  // per file; their sizes are charged

// An open regular file or directory.
class TmpFile final : public vfs::FileDescription {
 public:
  TmpFile(const vfs::OpenRequest& request, const Ref<TmpInode>& inode)
      : FileDescription(request, inode, Positioning::kSeekable), tmp_(*inode) {}

 private:
  bool updates_atime() const {
    const Ref<vfs::Mount>& mount = path().mount;
    if ((flags() & O_NOATIME) != 0 || !mount || mount->read_only()) return false;
    if (mount->has(vfs::MountFlags::kNoAtime)) return false;
    return !tmp_.is_directory() || !mount->has(vfs::MountFlags::kNoDirAtime);
  }

  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override {
    const size_t done = TRY(tmp_.data()->read(to, offset));
    if (updates_atime()) tmp_.accessed();
    return done;
  }

  Result<size_t> do_write(IoBuffers& from, uint64_t& offset,
                          const vfs::WriteOptions& options) override {
    FileData::Write where{offset, options.append, options.size_limit};
    const size_t done = TRY(tmp_.data()->write(from, where));
    offset = where.offset;
    if (done > 0) tmp_.written(*opener());
    return done;
  }

  Result<uint64_t> find_data(uint64_t offset, uint64_t, bool hole) override {
    return tmp_.data()->find(offset, hole);
  }

  // mm/shmem.c: shmem_fallocate knows these modes only.
  Result<void> do_allocate(int mode, uint64_t offset, uint64_t length) override {
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) != 0) return Errno::kOpNotSupp;
    const Range bytes{offset, offset + length};
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      TRY(tmp_.data()->punch_hole(bytes));
    } else {
      TRY(tmp_.data()->reserve(bytes, (mode & FALLOC_FL_KEEP_SIZE) != 0));
    }
    tmp_.written(*opener());
    return {};
  }

  Result<void> do_iterate(uint64_t& position, vfs::DirectorySink& sink) override {
    // Overlays open what is below them without a place.
    const Ref<vfs::Dentry> parent = path() ? path().dentry->parent() : nullptr;
    const Ref<vfs::Inode> above = parent ? parent->inode() : inode_ref();
    TRY(tmp_.iterate(position, TRY(above->attributes()).ino, sink));
    if (updates_atime()) tmp_.accessed();
    return {};
  }

  TmpInode& tmp_;
};

}  // namespace

Result<vfs::Attributes> TmpInode::attributes() {
  vfs::Attributes out;
  {
    Lock lock(fs_.mutex_);
    out = attributes_;
  }
  if (data_ && type() == vfs::FileType::kRegular) {
    out.size = data_->size();
    out.blocks = data_->allocated() / 512;
  }
  return out;
}

Result<void> TmpInode::change(const vfs::AttributeChange& change) {
  if (change.size) {
    if (!data_) return Errno::kInval;
    TRY(data_->resize(*change.size));
  }
  const Nanos now = fs_.clock_.realtime();
  const auto time = [&](const vfs::TimeChange& t) { return t.now ? now : t.value; };
  const bool exec_sealed = data_ && (data_->seals() & F_SEAL_EXEC) != 0;
  Lock lock(fs_.mutex_);
  if (exec_sealed && change.mode && ((*change.mode ^ attributes_.mode) & 0111) != 0) {
    return Errno::kPerm;
  }
  if (change.mode) attributes_.mode = *change.mode;
  if (change.uid) attributes_.uid = *change.uid;
  if (change.gid) attributes_.gid = *change.gid;
  if (change.size) attributes_.mtime = now;
  if (change.atime) attributes_.atime = time(*change.atime);
  if (change.mtime) attributes_.mtime = time(*change.mtime);
  attributes_.ctime = now;
  return {};
}

void TmpInode::accessed() {
  const Nanos now = fs_.clock_.realtime();
  Lock lock(fs_.mutex_);
  const bool stale = attributes_.atime <= attributes_.mtime ||
                     attributes_.atime <= attributes_.ctime || attributes_.atime < now - kDay;
  if (stale) attributes_.atime = now;
}

void TmpInode::written(const Credentials& who) {
  const Nanos now = fs_.clock_.realtime();
  Lock lock(fs_.mutex_);
  attributes_.mtime = attributes_.ctime = now;
  if ((attributes_.mode & (S_ISUID | S_ISGID)) != 0) {
    attributes_.mode = vfs::mode_after_write(attributes_, who);
  }
}

Result<void> TmpInode::iterate(uint64_t& position, uint64_t parent_ino, vfs::DirectorySink& sink) {
  Lock lock(fs_.mutex_);
  const uint64_t dots[2] = {attributes_.ino, parent_ino};
  const std::string_view names[2] = {".", ".."};
  while (position < 2) {
    if (!sink.add({names[position], dots[position], vfs::FileType::kDirectory, position + 1})) {
      return {};
    }
    position++;
  }
  while (const std::string* name = entries_->next(position)) {
    const TmpInode& child = *entries_->find(*name);
    child.shares_lock();
    const uint64_t ino = child.attributes_.ino;
    if (!sink.add({*name, ino, child.type(), position + 1})) return {};
    position++;
  }
  return {};
}

Result<std::string> TmpInode::read_link() {
  if (type() != vfs::FileType::kSymlink) return Errno::kInval;
  return symlink_target_;
}

Result<Ref<vfs::FileDescription>> TmpInode::open(const vfs::OpenRequest& request) {
  if (!data_ && !is_directory()) return Errno::kNxIo;
  return Ref<vfs::FileDescription>(make_ref<TmpFile>(request, Ref<TmpInode>(this)));
}

Result<std::string> TmpInode::get_xattr(std::string_view name) {
  Lock lock(fs_.mutex_);
  const auto at = xattrs_.find(name);
  if (at == xattrs_.end()) return Errno::kNoData;
  return at->second;
}

Result<void> TmpInode::set_xattr(std::string_view name, std::string_view value,
                                 vfs::XattrCreate how) {
  Lock lock(fs_.mutex_);
  const auto at = xattrs_.find(name);
  if (at == xattrs_.end()) {
    if (how == vfs::XattrCreate::kMustReplace) return Errno::kNoData;
    if (xattrs_.size() >= kMaxXattrs) return Errno::kNoSpc;
    TRY(fs_.charge_text(name.size() + value.size()));
    xattrs_.emplace(name, value);
  } else {
    if (how == vfs::XattrCreate::kMustCreate) return Errno::kExist;
    const size_t before = at->second.size();
    if (value.size() > before) TRY(fs_.charge_text(value.size() - before));
    if (value.size() < before) fs_.discharge_text(before - value.size());
    at->second = value;
  }
  attributes_.ctime = fs_.clock_.realtime();
  return {};
}

Result<void> TmpInode::remove_xattr(std::string_view name) {
  Lock lock(fs_.mutex_);
  const auto at = xattrs_.find(name);
  if (at == xattrs_.end()) return Errno::kNoData;
  fs_.discharge_text(at->first.size() + at->second.size());
  xattrs_.erase(at);
  attributes_.ctime = fs_.clock_.realtime();
  return {};
}

Result<std::vector<std::string>> TmpInode::list_xattr() {
  std::vector<std::string> names;
  Lock lock(fs_.mutex_);
  for (const auto& [name, value] : xattrs_) names.push_back(name);
  return names;
}

}  // namespace boxrun::fs
