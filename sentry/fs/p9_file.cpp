#include "sentry/fs/p9_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "sentry/fs/p9_fs.h"
#include "src/base/file_status.h"

namespace boxrun::fs {
namespace {

constexpr size_t kPieces = 128;           // iovecs of one host call
constexpr size_t kMaxBytes = 0x7ffff000;  // MAX_RW_COUNT

// Runs `transfer(iovecs, count, offset)` on the buffers until they are used up or it comes short.
// Bytes moved beat errors.
template <class Transfer>
Result<size_t> move_all(IoBuffers& buffers, uint64_t offset, Transfer transfer) {
  if (offset > INT64_MAX) return Errno::kInval;
  size_t done = 0;
  while (!buffers.empty()) {
    std::array<iovec, kPieces> pieces;
    const size_t count = buffers.iovecs(pieces, kMaxBytes);
    size_t asked = 0;
    for (size_t i = 0; i < count; i++) asked += pieces[i].iov_len;
    const ssize_t moved = transfer(pieces.data(), static_cast<int>(count), offset + done);
    if (moved < 0) {
      if (done > 0) break;
      return last_error();
    }
    buffers.skip(static_cast<size_t>(moved));
    done += static_cast<size_t>(moved);
    if (static_cast<size_t>(moved) < asked) break;
  }
  return done;
}

}  // namespace

Result<size_t> P9HostFile::read(IoBuffers& to, uint64_t offset) {
  if (fd() < 0) return client_.read(opened_.fid.number(), offset, to);
  return move_all(to, offset, [this](const iovec* pieces, int count, uint64_t at) {
    return preadv(fd(), pieces, count, static_cast<off_t>(at));
  });
}

Result<size_t> P9HostFile::write(IoBuffers& from, uint64_t offset, int rwf_flags) {
  if (fd() < 0) {
    const size_t done = TRY(client_.write(opened_.fid.number(), offset, from));
    if ((rwf_flags & RWF_DSYNC) != 0) TRY(client_.fsync(opened_.fid.number(), true));
    return done;
  }
  return move_all(from, offset, [&](const iovec* pieces, int count, uint64_t at) {
    return pwritev2(fd(), pieces, count, static_cast<off_t>(at), rwf_flags);
  });
}

Result<void> P9HostFile::sync(bool data_only) {
  if (fd() < 0) return client_.fsync(opened_.fid.number(), data_only);
  if ((data_only ? fdatasync(fd()) : fsync(fd())) < 0) return last_error();
  return {};
}

Result<struct stat> P9HostFile::stat() const {
  if (fd() < 0) return Errno::kOpNotSupp;
  return file_status(fd());
}

// --- P9Pages

void P9Pages::offer(const Ref<P9HostFile>& file) {
  Ref<P9HostFile> before;  // dropped after the lock
  const Lock lock(mutex_);
  if (file->serves(O_RDONLY) && !readable_) readable_ = file;
  if (file->serves(O_RDWR)) before = std::exchange(writable_, file);
}

// Mappings that may write keep the descriptor that they need.
void P9Pages::writer_closed() {
  if (mappings_.mapped_shared_writable()) return;
  Ref<P9HostFile> writable, readable;  // dropped after the lock
  const Lock lock(mutex_);
  writable = std::exchange(writable_, nullptr);
  if (readable_ == writable && !mappings_.mapped()) readable = std::exchange(readable_, nullptr);
}

void P9Pages::truncated(uint64_t size) {
  const std::optional<uint64_t> first = page_up(size);
  if (first)
    mappings_.invalidate(*this, {*first, UINT64_MAX}, mm::MappingObserver::Gone::kTruncated);
}

int P9Pages::host_fd(bool writable) {
  const Lock lock(mutex_);
  const Ref<P9HostFile>& file = writable || !readable_ ? writable_ : readable_;
  return file ? file->fd() : -1;
}

Ref<P9HostFile> P9Pages::any() {
  const Lock lock(mutex_);
  return writable_ ? writable_ : readable_;
}

uint64_t P9Pages::size() {
  const Ref<P9HostFile> file = any();
  const Result<struct stat> st = file ? file->stat() : Errno::kBadF;
  return st.ok() ? static_cast<uint64_t>(st->st_size) : 0;
}

Result<void> P9Pages::add_mapping(mm::MappingObserver& observer, Range file_range,
                                  bool shared_writable) {
  mappings_.add(observer, file_range, shared_writable);
  return {};
}

void P9Pages::remove_mapping(mm::MappingObserver& observer, Range file_range,
                             bool shared_writable) {
  mappings_.remove(observer, file_range, shared_writable);
}

// The guest's stores went to the host's page cache.
Result<void> P9Pages::sync(Range) {
  const Ref<P9HostFile> file = any();
  return file ? file->sync(true) : Result<void>();
}

// --- P9File

P9File::P9File(const vfs::OpenRequest& request, Ref<P9Inode> inode, Ref<P9HostFile> file)
    : FileDescription(request, std::move(inode), Positioning::kSeekable), file_(std::move(file)) {}

P9File::~P9File() {
  if (writable()) p9_inode().writer_closed();
}

P9Inode& P9File::p9_inode() const { return static_cast<P9Inode&>(inode()); }

Result<Ref<mm::PageSource>> P9File::map() {
  if (file_->fd() < 0) return Errno::kNoDev;
  Ref<P9Pages> pages = p9_inode().pages();
  pages->offer(file_);
  return Ref<mm::PageSource>(std::move(pages));
}

Result<size_t> P9File::do_read(IoBuffers& to, uint64_t offset) { return file_->read(to, offset); }

Result<size_t> P9File::do_write(IoBuffers& from, uint64_t& offset,
                                const vfs::WriteOptions& options) {
  const int sync = options.data_sync ? RWF_DSYNC : 0;
  // Other writers of the host may append meanwhile: the host finds the end, not we.
  const bool host_appends = options.append && file_->fd() >= 0;
  if (options.append) {
    offset = host_appends ? static_cast<uint64_t>(TRY(file_->stat()).st_size)
                          : TRY(inode().attributes()).size;
  }
  TRY(limit_write(from, offset, options));
  const size_t done = TRY(file_->write(from, offset, sync | (host_appends ? RWF_APPEND : 0)));
  p9_inode().written();
  if (host_appends && done > 0) {
    const auto end = static_cast<uint64_t>(TRY(file_->stat()).st_size);
    offset = end >= done ? end - done : 0;
  }
  return done;
}

Result<uint64_t> P9File::find_data(uint64_t offset, uint64_t size, bool hole) {
  if (file_->fd() < 0) return FileDescription::find_data(offset, size, hole);
  // The host's own position is used by nobody.
  const off_t found = lseek(file_->fd(), static_cast<off_t>(offset), hole ? SEEK_HOLE : SEEK_DATA);
  return static_cast<uint64_t>(TRY(host_result(found)));
}

Result<void> P9File::do_allocate(int mode, uint64_t offset, uint64_t length) {
  if (file_->fd() < 0) return Errno::kOpNotSupp;
  if (fallocate(file_->fd(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) < 0) {
    return last_error();
  }
  p9_inode().written();
  return {};
}

// --- P9Directory

P9Directory::P9Directory(const vfs::OpenRequest& request, Ref<P9Inode> inode)
    : FileDescription(request, std::move(inode), Positioning::kSeekable) {}

P9Directory::~P9Directory() = default;

Result<void> P9Directory::do_iterate(uint64_t& position, vfs::DirectorySink& sink) {
  auto& directory = static_cast<P9Inode&>(inode());
  if (position == 0 || !listing_) listing_ = TRY(directory.listing());
  if (position == 0) {
    if (!sink.add({".", directory.number(), vfs::FileType::kDirectory, 1})) return {};
    position = 1;
  }
  if (position == 1) {
    const Ref<vfs::Dentry> parent = path().dentry ? path().dentry->parent() : nullptr;
    const Ref<vfs::Inode> up = parent ? parent->inode() : inode_ref();
    const uint64_t number = up ? TRY(up->attributes()).ino : directory.number();
    if (!sink.add({"..", number, vfs::FileType::kDirectory, 2})) return {};
    position = 2;
  }
  const auto& entries = listing_->entries();
  for (; position - 2 < entries.size(); position++) {
    const gofer::DirectoryEntry& entry = entries[position - 2];
    if (entry.hidden) continue;
    const auto type = static_cast<vfs::FileType>(entry.type & 15);
    if (!sink.add({entry.name, entry.ino, type, position + 1})) return {};
  }
  return {};
}

}  // namespace boxrun::fs
