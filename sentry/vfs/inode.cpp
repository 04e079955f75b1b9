#include "sentry/vfs/inode.h"

#include <utility>

#include "sentry/vfs/access.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_lock.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/mount.h"

namespace boxrun::vfs {

Inode::Inode(FileSystem& file_system, FileType type) : file_system_(file_system), type_(type) {}
Inode::~Inode() = default;

Result<void> Inode::change(const AttributeChange&) { return Errno::kPerm; }

Result<void> Inode::permission(const Credentials& who, AccessMask mask) {
  return check_access(TRY(attributes()), who, mask);
}

Result<Ref<Inode>> Inode::lookup(std::string_view) {
  return is_directory() ? Errno::kNoEnt : Errno::kNotDir;
}

void Inode::lookup_path(std::span<const std::string_view> names, const LookupIntent&,
                        LookupResult& out) {
  Inode* at = this;
  for (const std::string_view name : names) {
    // A symlink or a file in the middle: whoever asked decides what that means.
    if (!at->is_directory()) {
      out.error = Errno::kNotDir;
      return;
    }
    Result<Ref<Inode>> found = at->lookup(name);
    if (!found.ok()) {
      out.error = found.error();
      return;
    }
    out.inodes.push_back(std::move(found).take());
    at = out.inodes.back().get();
  }
}

bool Inode::entry_is_current(const CachedEntry&) { return true; }

// fs/namei.c: vfs_create answers EACCES without the method ("shouldn't it be ENOSYS?"), the other
// calls EPERM.
Result<Ref<Inode>> Inode::create(std::string_view, const NewNode& node) {
  return node.type == FileType::kRegular ? Errno::kAcces : Errno::kPerm;
}

Result<Inode::Created> Inode::create_and_open(std::string_view name, const NewNode& node,
                                              const OpenRequest& request) {
  Ref<Inode> inode = TRY(create(name, node));
  Ref<FileDescription> file = TRY(inode->open(request));
  return Created{std::move(inode), std::move(file)};
}

Result<Ref<Inode>> Inode::create_unnamed(const NewNode&) { return Errno::kOpNotSupp; }
Result<void> Inode::link(std::string_view, Inode&) { return Errno::kPerm; }
Result<void> Inode::unlink(std::string_view, Inode&) { return Errno::kPerm; }
Result<void> Inode::rmdir(std::string_view, Inode&) { return Errno::kPerm; }
Result<void> Inode::rename(std::string_view, Inode&, Inode&, std::string_view, Inode*, uint32_t) {
  return Errno::kPerm;
}

Result<std::string> Inode::read_link() { return Errno::kInval; }
Result<std::unique_ptr<Path>> Inode::magic_link(Caller&) { return std::unique_ptr<Path>(); }
Result<Ref<FileDescription>> Inode::open(const OpenRequest&) { return Errno::kNxIo; }
Ref<mm::PageSource> Inode::page_source() { return nullptr; }

Result<std::string> Inode::get_xattr(std::string_view) { return Errno::kOpNotSupp; }
Result<void> Inode::set_xattr(std::string_view, std::string_view, XattrCreate) {
  return Errno::kOpNotSupp;
}
Result<void> Inode::remove_xattr(std::string_view) { return Errno::kOpNotSupp; }
Result<std::vector<std::string>> Inode::list_xattr() { return Errno::kOpNotSupp; }

Result<void> Inode::get_write_access() {
  int count = write_count_.load(std::memory_order_relaxed);
  do {
    if (count < 0) return Errno::kTxtBsy;
  } while (!write_count_.compare_exchange_weak(count, count + 1, std::memory_order_acquire));
  return {};
}

Result<void> Inode::deny_write_access() {
  int count = write_count_.load(std::memory_order_relaxed);
  do {
    if (count > 0) return Errno::kTxtBsy;
  } while (!write_count_.compare_exchange_weak(count, count - 1, std::memory_order_acquire));
  return {};
}

FileLocks& Inode::locks() {
  Lock lock(state_mutex_);
  if (!locks_) locks_ = std::make_unique<FileLocks>();
  return *locks_;
}

FileLocks* Inode::existing_locks() {
  Lock lock(state_mutex_);
  return locks_.get();
}

Ref<RefCounted> Inode::attachment() {
  Lock lock(state_mutex_);
  return attachment_;
}

Ref<RefCounted> Inode::attach_if_none(Ref<RefCounted> object) {
  Lock lock(state_mutex_);
  if (!attachment_) attachment_ = std::move(object);
  return attachment_;
}

void Inode::detach(const RefCounted& object) {
  Ref<RefCounted> gone;  // dropped after the lock
  Lock lock(state_mutex_);
  if (attachment_.get() == &object) gone = std::exchange(attachment_, nullptr);
}

}  // namespace boxrun::vfs
