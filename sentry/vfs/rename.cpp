// rename(2), renameat2(2): fs/namei.c, do_renameat2 and vfs_rename.
#include <linux/capability.h>
#include <linux/fs.h>

#include <optional>
#include <utility>

#include "sentry/vfs/file_system.h"
#include "sentry/vfs/names.h"
#include "sentry/vfs/operations.h"

namespace boxrun::vfs {
namespace {

// The rename lock, where directories differ, and the mutexes of both directories, ancestor first.
class RenameLock {
 public:
  RenameLock(Dentry& from, Dentry& to, FileSystem& file_system) NO_THREAD_SAFETY_ANALYSIS
      : first_(&from),
        second_(&from == &to ? nullptr : &to) {
    if (second_ == nullptr) {
      first_->directory_mutex().lock();
      return;
    }
    rename_mutex_ = &file_system.rename_mutex();
    rename_mutex_->lock();
    // Under the rename lock the tree keeps its shape. Unrelated directories go by address.
    const DentryCache& cache = from.cache();
    const bool swap = cache.is_below(from, to) || (!cache.is_below(to, from) && &to < &from);
    if (swap) std::swap(first_, second_);
    first_->directory_mutex().lock();
    second_->directory_mutex().lock_nested();
  }
  ~RenameLock() NO_THREAD_SAFETY_ANALYSIS {
    if (second_ != nullptr) second_->directory_mutex().unlock();
    first_->directory_mutex().unlock();
    if (rename_mutex_ != nullptr) rename_mutex_->unlock();
  }
  RenameLock(const RenameLock&) = delete;
  RenameLock& operator=(const RenameLock&) = delete;

 private:
  Dentry* first_;
  Dentry* second_;
  Mutex* rename_mutex_ = nullptr;
};

// One rename whose directories are locked.
struct Rename {
  Caller& caller;
  const LastName& from;
  const LastName& to;
  uint32_t flags;
  Ref<Dentry> moved, replaced;  // `replaced` may be negative

  bool exchange() const { return (flags & RENAME_EXCHANGE) != 0; }
  Result<void> find();
  Result<void> check_shape() const;
  Result<void> check_permissions() const;
  Result<void> commit();
};

Result<void> Rename::find() {
  moved = TRY(lookup_locked(from.directory, from.name));
  if (!moved->inode()) return Errno::kNoEnt;
  replaced = TRY(lookup_locked(to.directory, to.name));
  if ((flags & RENAME_NOREPLACE) != 0 && replaced->inode()) return Errno::kExist;
  if (exchange() && !replaced->inode()) return Errno::kNoEnt;
  return {};
}

Result<void> Rename::check_shape() const {
  const bool moves_directory = moved->inode()->is_directory();
  if (exchange()) {
    if (!replaced->inode()->is_directory() && to.trailing_slash) return Errno::kNotDir;
  }
  if (!moves_directory && (from.trailing_slash || (!exchange() && to.trailing_slash))) {
    return Errno::kNotDir;
  }
  const DentryCache& cache = moved->cache();
  // A directory cannot move below itself, nor replace one of its ancestors.
  if (cache.is_below(*to.directory.dentry, *moved)) return Errno::kInval;
  if (cache.is_below(*from.directory.dentry, *replaced)) {
    return exchange() ? Errno::kInval : Errno::kNotEmpty;
  }
  return {};
}

Result<void> Rename::check_permissions() const {
  const Ref<Inode> source = moved->inode();
  const Ref<Inode> target = replaced->inode();
  const auto kind_of = [](const Inode& inode) {
    return inode.is_directory() ? Expect::kDirectory : Expect::kFile;
  };
  TRY(may_delete_from(caller, from.directory, *moved, kind_of(*source)));
  if (target) {
    const Expect expect = exchange() ? kind_of(*target) : kind_of(*source);
    TRY(may_delete_from(caller, to.directory, *replaced, expect));
  } else {
    TRY(may_create_in(caller, to.directory));
  }
  if (from.directory.dentry == to.directory.dentry) return {};
  // ".." changes, so the directory itself must be writable.
  if (source->is_directory()) TRY(source->permission(*caller.credentials, kMayWrite));
  if (exchange() && target->is_directory()) {
    TRY(target->permission(*caller.credentials, kMayWrite));
  }
  return {};
}

Result<void> Rename::commit() {
  const Ref<Inode> source = moved->inode();
  const Ref<Inode> target = replaced->inode();
  // rename(2): two names of one file stay as they are.
  if (source == target) return {};
  TRY(check_permissions());
  if (moved->is_mountpoint() || replaced->is_mountpoint()) return Errno::kBusy;
  std::optional<NestedDirectoryLock> inside;
  if (target && target->is_directory() && !exchange()) inside.emplace(*replaced);
  TRY(from.directory.dentry->inode()->rename(from.name, *source, *to.directory.dentry->inode(),
                                             to.name, target.get(), flags & ~RENAME_NOREPLACE));
  if (exchange()) {
    moved->cache().exchange(*moved, *replaced);
  } else {
    moved->cache().move(*moved, *to.directory.dentry, to.name);
  }
  return {};
}

Result<void> rename_last(Caller& caller, const LastName& from, const LastName& to, uint32_t flags) {
  const RenameLock lock(*from.directory.dentry, *to.directory.dentry,
                        from.directory.mount->file_system());
  Rename rename{caller, from, to, flags, nullptr, nullptr};
  TRY(rename.find());
  TRY(rename.check_shape());
  return rename.commit();
}

}  // namespace

Result<void> rename_at(Caller& caller, const At& from, const At& to, uint32_t flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0) {
    return Errno::kInval;
  }
  if ((flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0 && (flags & RENAME_EXCHANGE) != 0) {
    return Errno::kInval;
  }
  const LastName old_name = TRY(walk_to_last(caller, from.start, from.path));
  const LastName new_name = TRY(walk_to_last(caller, to.start, to.path));
  if (old_name.directory.mount != new_name.directory.mount) return Errno::kXDev;
  if (old_name.kind != LastName::Kind::kNormal) return Errno::kBusy;
  if (new_name.kind != LastName::Kind::kNormal) {
    return (flags & RENAME_NOREPLACE) != 0 ? Errno::kExist : Errno::kBusy;
  }
  TRY(require_writable(caller, old_name));
  return rename_last(caller, old_name, new_name, flags);
}

}  // namespace boxrun::vfs
