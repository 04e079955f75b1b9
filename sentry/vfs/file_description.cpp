#include "sentry/vfs/file_description.h"

#include <linux/falloc.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

#include "sentry/vfs/access.h"
#include "sentry/vfs/file_lock.h"
#include "sentry/vfs/terminal.h"

namespace boxrun::vfs {

FileDescription::FileDescription(const OpenRequest& request, Ref<Inode> inode,
                                 Positioning positioning)
    : path_(request.path),
      inode_(std::move(inode)),
      opener_(request.credentials),
      positioning_(positioning),
      flags_(request.flags &
             (O_ACCMODE | O_PATH | O_DIRECTORY | O_NOFOLLOW | kLargeFile | O_SYNC | kStatusFlags)) {
}

FileDescription::~FileDescription() = default;

void FileDescription::last_reference_gone() {
  give_up_claim();
  epoll_links_.release_all();
  if (FileLocks* locks = inode_->existing_locks()) {
    locks->unflock(this);
    locks->release_owner(this);
  }
  delete this;
}

Result<void> FileDescription::claim(Claim claim) {
  if (claim == Claim::kWrites) TRY(inode_->get_write_access());
  if (claim == Claim::kDeniesWrites) TRY(inode_->deny_write_access());
  claim_ = claim;
  return {};
}

void FileDescription::give_up_claim() {
  const Claim claim = std::exchange(claim_, Claim::kNone);
  if (claim == Claim::kWrites) inode_->put_write_access();
  if (claim == Claim::kDeniesWrites) inode_->allow_write_access();
}

void FileDescription::closed_by(const void* table) {
  if (FileLocks* locks = inode_->existing_locks()) locks->release_owner(table);
}

Result<void> FileDescription::set_flags(int flags, const Credentials& who) {
  const int old = flags_.load(std::memory_order_relaxed);
  if ((flags & ~old & O_NOATIME) != 0 && !is_owner_or_capable(TRY(inode_->attributes()), who)) {
    return Errno::kPerm;
  }
  const int now = (old & ~kStatusFlags) | (flags & kStatusFlags);
  flags_.store(now, std::memory_order_relaxed);
  flags_changed(now);
  return {};
}

Result<size_t> FileDescription::read(IoBuffers& to) {
  if (!readable()) return Errno::kBadF;
  if (inode_->is_directory()) return Errno::kIsDir;
  if (positioning_ != Positioning::kSeekable) return do_read(to, kCurrent);
  Lock lock(offset_mutex_);
  const size_t done = TRY(do_read(to, offset_));
  offset_ += done;
  return done;
}

Result<size_t> FileDescription::pread(IoBuffers& to, int64_t offset) {
  if (offset < 0) return Errno::kInval;
  if (is_path()) return Errno::kBadF;
  if (positioning_ == Positioning::kStream) return Errno::kSPipe;
  if (!readable()) return Errno::kBadF;
  if (inode_->is_directory()) return Errno::kIsDir;
  return do_read(to, static_cast<uint64_t>(offset));
}

Result<size_t> FileDescription::write(IoBuffers& from, WriteOptions options) {
  if (!writable()) return Errno::kBadF;
  options.append |= (flags() & O_APPEND) != 0;
  options.data_sync |= (flags() & O_DSYNC) != 0;
  uint64_t offset = kCurrent;
  if (positioning_ != Positioning::kSeekable) return do_write(from, offset, options);
  Lock lock(offset_mutex_);
  offset = offset_;
  const size_t done = TRY(do_write(from, offset, options));
  offset_ = offset + done;
  return done;
}

Result<size_t> FileDescription::pwrite(IoBuffers& from, int64_t offset, WriteOptions options) {
  if (offset < 0) return Errno::kInval;
  if (is_path()) return Errno::kBadF;
  if (positioning_ == Positioning::kStream) return Errno::kSPipe;
  if (!writable()) return Errno::kBadF;
  // pwrite(2), BUGS: with O_APPEND Linux appends, whatever the offset.
  options.append |= (flags() & O_APPEND) != 0;
  options.data_sync |= (flags() & O_DSYNC) != 0;
  auto at = static_cast<uint64_t>(offset);
  return do_write(from, at, options);
}

Result<uint64_t> FileDescription::seek(int64_t offset, int whence) {
  if (is_path()) return Errno::kBadF;
  if (whence < SEEK_SET || whence > SEEK_HOLE) return Errno::kInval;
  if (positioning_ == Positioning::kStream) return seek_stream();
  Lock lock(offset_mutex_);
  const uint64_t position = TRY(do_seek(offset_, offset, whence));
  offset_ = position;
  return position;
}

Result<uint64_t> FileDescription::find(uint64_t offset, bool hole) {
  const uint64_t size = TRY(attributes()).size;
  if (offset >= size) return Errno::kNxIo;
  return find_data(offset, size, hole);
}

Result<uint64_t> FileDescription::do_seek(uint64_t position, int64_t offset, int whence) {
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = static_cast<int64_t>(position);
      break;
    case SEEK_END:
      base = static_cast<int64_t>(TRY(attributes()).size);
      break;
    case SEEK_DATA:
    case SEEK_HOLE:
      if (offset < 0) return Errno::kNxIo;
      return find(static_cast<uint64_t>(offset), whence == SEEK_HOLE);
    default:
      return Errno::kInval;
  }
  int64_t result = 0;
  if (__builtin_add_overflow(base, offset, &result) || result < 0) return Errno::kInval;
  return static_cast<uint64_t>(result);
}

Result<uint64_t> FileDescription::find_data(uint64_t offset, uint64_t size, bool hole) {
  return hole ? size : offset;
}

Result<void> FileDescription::truncate(uint64_t size) {
  if (is_path()) return Errno::kBadF;
  if (inode_->type() != FileType::kRegular || !writable()) return Errno::kInval;
  return do_truncate(size);
}

Result<void> FileDescription::do_truncate(uint64_t size) {
  const Attributes now = TRY(inode_->attributes());
  AttributeChange change;
  change.size = size;
  if (const mode_t mode = mode_after_write(now, *opener_); mode != now.mode) change.mode = mode;
  return inode_->change(change);
}

// The order of the checks is that of fs/open.c: vfs_fallocate.
Result<void> FileDescription::allocate(int mode, uint64_t offset, uint64_t length) {
  if (is_path()) return Errno::kBadF;
  if (static_cast<int64_t>(offset) < 0 || static_cast<int64_t>(length) <= 0) return Errno::kInval;
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
                         FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE |
                         FALLOC_FL_UNSHARE_RANGE;
  if ((mode & ~kKnown) != 0) return Errno::kOpNotSupp;
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
    return Errno::kOpNotSupp;
  }
  if (!writable()) return Errno::kBadF;
  switch (inode_->type()) {
    case FileType::kRegular:
      break;
    case FileType::kFifo:
      return Errno::kSPipe;
    case FileType::kDirectory:
      return Errno::kIsDir;
    default:
      return Errno::kNoDev;
  }
  if (length > static_cast<uint64_t>(INT64_MAX) - offset) return Errno::kFBig;
  return do_allocate(mode, offset, length);
}

Result<void> FileDescription::read_directory(DirectorySink& sink) {
  Lock lock(offset_mutex_);
  uint64_t position = offset_;
  TRY(read_directory_at(position, sink));
  offset_ = position;
  return {};
}

Result<void> FileDescription::read_directory_at(uint64_t& position, DirectorySink& sink) {
  if (is_path()) return Errno::kBadF;
  if (!inode_->is_directory()) return Errno::kNotDir;
  if (path_.dentry && path_.dentry->unhashed()) return Errno::kNoEnt;
  return do_iterate(position, sink);
}

Result<size_t> FileDescription::do_read(IoBuffers&, uint64_t) { return Errno::kInval; }
Result<size_t> FileDescription::do_write(IoBuffers&, uint64_t&, const WriteOptions&) {
  return Errno::kInval;
}
Result<void> FileDescription::do_allocate(int, uint64_t, uint64_t) { return Errno::kOpNotSupp; }
Result<void> FileDescription::do_iterate(uint64_t&, DirectorySink&) { return Errno::kNotDir; }

Result<void> FileDescription::limit_write(IoBuffers& from, uint64_t offset,
                                          const WriteOptions& options) {
  const uint64_t limit = std::min(options.size_limit, static_cast<uint64_t>(INT64_MAX));
  if (from.empty()) return {};
  if (offset >= limit) return Errno::kFBig;
  from.truncate(std::min(from.remaining(), static_cast<size_t>(limit - offset)));
  return {};
}

Result<Ref<mm::PageSource>> FileDescription::map() {
  Ref<mm::PageSource> source = inode_->page_source();
  if (!source) return Errno::kNoDev;
  return source;
}

Result<uint64_t> FileDescription::ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                                        IoctlCaller&) {
  if (command != FIONREAD || inode_->type() != FileType::kRegular) return Errno::kNoTty;
  // fs/ioctl.c: file_ioctl; cut to an int as there.
  const uint64_t left = TRY(attributes()).size - position();
  TRY(memory.write(mm::UserOut<int32_t>{arg}, static_cast<int32_t>(left)));
  return uint64_t{0};
}

Result<void> FileDescription::sync(bool) {
  if (positioning_ == Positioning::kStream) return Errno::kInval;
  return {};
}

Ref<Terminal> FileDescription::terminal() { return nullptr; }

namespace {

class PathOnly final : public FileDescription {
 public:
  PathOnly(const OpenRequest& request, Ref<Inode> inode)
      : FileDescription(request, std::move(inode), Positioning::kSeekable) {}
};

}  // namespace

Ref<FileDescription> open_path_only(Path path, int flags, Ref<Credentials> credentials) {
  Ref<Inode> inode = path.dentry->inode();
  const OpenRequest request{(flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW)) | O_PATH, std::move(path),
                            std::move(credentials)};
  return make_ref<PathOnly>(request, std::move(inode));
}

}  // namespace boxrun::vfs
