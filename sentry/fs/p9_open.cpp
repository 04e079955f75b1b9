// Which host file stands behind an open one, and for how long it is kept.
#include <fcntl.h>

#include <utility>

#include "sentry/fs/p9_fs.h"

namespace boxrun::fs {

// Files to be written are opened for reading too, where that is allowed: mappings need it, and one
// descriptor then serves everybody.
uint32_t P9Inode::host_access(int flags) {
  return (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
}

Ref<P9HostFile> P9Inode::kept_file(int flags) {
  const Lock lock(mutex_);
  if (writer_ && writer_->serves(flags)) return writer_;
  if (reader_ && reader_->serves(flags)) return reader_;
  return nullptr;
}

Ref<P9HostFile> P9Inode::keep_file(gofer::RemoteOpen opened, int access) {
  Ref<P9HostFile> file = make_ref<P9HostFile>(fs_.client(), std::move(opened), access);
  Ref<P9HostFile> before;  // dropped after the lock
  {
    const Lock lock(mutex_);
    Ref<P9HostFile>& slot = access == O_RDONLY ? reader_ : writer_;
    before = std::exchange(slot, file);
    // The one that is there serves as well, and mappings use it.
    if (before && before->serves(access)) std::swap(before, slot);
    file = slot;
  }
  fs_.connection_->keeps(*this);
  return file;
}

Result<Ref<P9HostFile>> P9Inode::host_file(int flags) {
  if (Ref<P9HostFile> kept = kept_file(flags)) return kept;
  uint32_t access = host_access(flags);
  auto reply = TRY(walk({}, {.open_flags = access}));
  if (reply.failure.error == Errno::kAcces && (flags & O_ACCMODE) == O_WRONLY) {
    access = O_WRONLY;
    reply = TRY(walk({}, {.open_flags = access}));
  }
  if (reply.failure.error != Errno::kOk) return reply.failure.error;
  return keep_file(std::move(reply.opened), static_cast<int>(access));
}

Result<Ref<vfs::FileDescription>> P9Inode::open(const vfs::OpenRequest& request) {
  if (is_directory()) {
    return Ref<vfs::FileDescription>(make_ref<P9Directory>(request, Ref<P9Inode>(this)));
  }
  if (type() != vfs::FileType::kRegular) return Errno::kNxIo;
  Ref<P9HostFile> file = TRY(host_file(request.flags));
  if ((request.flags & O_ACCMODE) != O_RDONLY) {
    const Lock lock(mutex_);
    writers_++;
  }
  return Ref<vfs::FileDescription>(make_ref<P9File>(request, Ref<P9Inode>(this), std::move(file)));
}

void P9Inode::writer_closed() {
  Ref<P9HostFile> gone;  // dropped after the lock
  Ref<P9Pages> pages;
  {
    const Lock lock(mutex_);
    if (--writers_ > 0) return;
    // Its last writes are not in attr_, and later nobody is there to tell.
    stale_since_ = fs_.change_made();
    gone = std::exchange(writer_, nullptr);
    pages = pages_;
  }
  if (pages) pages->writer_closed();
}

// Somebody else's turn to have a descriptor. What is open or mapped has its own reference.
void P9Inode::give_up_file() {
  Ref<P9HostFile> reader, writer;  // dropped after the lock
  Ref<P9Pages> pages;
  const Lock lock(mutex_);
  reader = std::exchange(reader_, nullptr);
  if (writers_ == 0) writer = std::exchange(writer_, nullptr);
  if (pages_ && !pages_->in_use()) pages = std::exchange(pages_, nullptr);
}

Ref<P9Pages> P9Inode::pages() {
  const Lock lock(mutex_);
  if (!pages_) pages_ = make_ref<P9Pages>(mm::PageSource::Identity{fs_.device(), number_, {}});
  return pages_;
}

Ref<mm::PageSource> P9Inode::page_source() {
  if (type() != vfs::FileType::kRegular) return nullptr;
  const Result<Ref<P9HostFile>> file = host_file(O_RDONLY);
  // Of a peer that donates nothing pages would have to be copied: not yet.
  if (!file.ok() || (*file)->fd() < 0) return nullptr;
  Ref<P9Pages> source = pages();
  source->offer(*file);
  return source;
}

}  // namespace boxrun::fs
