#pragma once
#include <fcntl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "sentry/cred/credentials.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/page_source.h"
#include "sentry/vfs/attributes.h"
#include "sentry/vfs/caller.h"
#include "sentry/vfs/epoll_links.h"
#include "sentry/vfs/mount.h"
#include "sentry/wait/wait.h"
#include "src/base/bytes.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

class Terminal;

// What open(2) asks of an inode. Permission has been checked.
struct OpenRequest {
  int flags = 0;  // O_*: access mode and status flags; creation flags have been dealt with
  Path path;
  Ref<Credentials> credentials;
  Ref<Terminal> terminal = nullptr;  // the caller's controlling terminal
};

// O_LARGEFILE: what open(2) adds for 64-bit programs (fs/open.c: force_o_largefile) and F_GETFL
// shows. glibc's own constant is 0 there.
inline constexpr int kLargeFile = 0100000;
inline constexpr int kStatusFlags =
    O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC;  // what F_SETFL may change

// How one write is to be done.
struct WriteOptions {
  bool append = false;               // O_APPEND or RWF_APPEND: at the end, whatever offset says
  bool data_sync = false;            // O_DSYNC or RWF_DSYNC
  uint64_t size_limit = UINT64_MAX;  // RLIMIT_FSIZE: EFBIG (and SIGXFSZ) from there on
};

// Takes directory entries one at a time. Called with locks of the file system held: it copies, and
// does nothing else.
class DirectorySink {
 public:
  struct Entry {
    std::string_view name;
    uint64_t ino;
    FileType type;
    uint64_t next;  // the offset that iteration continues from after this entry
  };
  // False when there is no room for the entry.
  virtual bool add(const Entry& entry) = 0;

 protected:
  ~DirectorySink() = default;
};

// An open file (struct file; "open file description" in open(2)): an inode, a position, status
// flags. Shared by descriptors, fork and SCM_RIGHTS. Thread-safe. Never blocks: what would have to
// wait returns kAgain, and the caller waits on queue() until ready() shows what it needs.
class FileDescription : public RefCounted {
 public:
  // Where reads and writes happen. kStream has no position: pipes, sockets, terminals. kExternal
  // has one that is kept elsewhere (the caller's own stdin): do_read and do_write get kCurrent.
  enum class Positioning : uint8_t { kSeekable, kStream, kExternal };
  static constexpr uint64_t kCurrent = UINT64_MAX;

  const Path& path() const { return path_; }
  Inode& inode() const { return *inode_; }
  const Ref<Inode>& inode_ref() const { return inode_; }
  const Ref<Credentials>& opener() const { return opener_; }  // credentials at open time
  Positioning positioning() const { return positioning_; }

  // Access mode, status flags and O_PATH, as F_GETFL reports them.
  int flags() const { return flags_.load(std::memory_order_relaxed); }
  // Access mode 3 opens for neither, only for ioctls (open(2), NOTES).
  bool readable() const { return (((flags() & O_ACCMODE) + 1) & 1) != 0 && !is_path(); }
  bool writable() const { return (((flags() & O_ACCMODE) + 1) & 2) != 0 && !is_path(); }
  bool nonblocking() const { return (flags() & O_NONBLOCK) != 0; }
  bool is_path() const { return (flags() & O_PATH) != 0; }
  // F_SETFL: replaces the bits of kStatusFlags. EPERM when O_NOATIME is not the caller's to set.
  Result<void> set_flags(int flags, const Credentials& who);

  // --- data. EBADF when not opened for it, EISDIR on directories. A result of 0 is end of file.
  // At the position, which moves on. A write to a stream may take less than it was given: a caller
  // that may block goes on with the rest.
  Result<size_t> read(IoBuffers& to) EXCLUDES(offset_mutex_);
  Result<size_t> write(IoBuffers& from, WriteOptions options) EXCLUDES(offset_mutex_);
  // Before a write from a buffer of which only the beginning, `from`, can be read: leaves what the
  // file takes of it, by default all. EFAULT when it takes none.
  virtual Result<void> cut_partial(IoBuffers&) const { return {}; }
  // Elsewhere; ESPIPE for streams, EINVAL for a negative offset.
  Result<size_t> pread(IoBuffers& to, int64_t offset);
  Result<size_t> pwrite(IoBuffers& from, int64_t offset, WriteOptions options);
  Result<uint64_t> seek(int64_t offset, int whence) EXCLUDES(offset_mutex_);
  // SEEK_DATA and SEEK_HOLE without a change of the position: for who reads under locks of his own.
  // ENXIO when nothing follows.
  Result<uint64_t> find(uint64_t offset, bool hole);
  // EINVAL for regular files opened read-only (ftruncate(2)), EFBIG, EPERM (seals).
  Result<void> truncate(uint64_t size);
  Result<void> allocate(int mode, uint64_t offset, uint64_t length);  // fallocate(2)
  // Fills `sink` from the position on. ENOTDIR; ENOENT once the directory has been removed. The
  // caller answers EINVAL when there was no room for the first entry.
  Result<void> read_directory(DirectorySink& sink) EXCLUDES(offset_mutex_);
  // The same from a position that the caller keeps: for who reads a directory under locks of his
  // own.
  Result<void> read_directory_at(uint64_t& position, DirectorySink& sink);

  // --- readiness
  // Which of poll's events hold now. Files that never block are always readable and writable.
  virtual Events ready() { return kReadable | kWritable; }
  // Notified when ready() may have changed. Null for what never blocks, which epoll refuses.
  virtual WaitQueue* queue() { return nullptr; }
  // kAgain while open(2) has to wait (FIFOs, for their other end); the caller waits on queue().
  virtual Result<void> finish_open() { return {}; }

  // --- the rest
  virtual Result<Attributes> attributes() { return inode_->attributes(); }
  // What mmap shows. A null Ref stands for anonymous memory (/dev/zero). ENODEV; EACCES is the
  // caller's business.
  virtual Result<Ref<mm::PageSource>> map();
  // ENOTTY for what it does not know. `arg` is the guest's third argument.
  virtual Result<uint64_t> ioctl(uint32_t command, uint64_t arg, mm::MemoryManager& memory,
                                 IoctlCaller& caller);
  virtual Result<void> sync(bool data_only);  // fsync, fdatasync; EINVAL for streams
  virtual Ref<Terminal> terminal();           // null: not a tty
  // Some descriptor of the file was closed: `table` loses its POSIX locks. Not called for O_PATH.
  void closed_by(const void* table);
  // Settles errors of earlier writes, for close(2) to report.
  virtual Result<void> flush() { return {}; }
  // For /proc/PID/fdinfo, after the common lines: "eventfd-count: 1\n".
  virtual std::string describe() { return {}; }
  uint64_t position() const { return offset_.load(std::memory_order_relaxed); }

  // F_SETOWN and F_SETSIG: who gets SIGIO. The kernel gives the numbers a meaning.
  // Aligned because clang otherwise calls libatomic, and a lock, for what one instruction does.
  struct alignas(8) AsyncOwner {
    pid_t id = 0;
    int16_t type = F_OWNER_PID;
    int16_t signal = 0;
  };
  AsyncOwner async_owner() const { return async_owner_.load(std::memory_order_relaxed); }
  void set_async_owner(AsyncOwner owner) { async_owner_.store(owner, std::memory_order_relaxed); }

  // What an open file keeps others from doing with the inode: executing it, or writing to it while
  // it is executed. ETXTBSY. Once, before others know the file; until give_up_claim or the end.
  enum class Claim : uint8_t { kNone, kWrites, kDeniesWrites };
  Result<void> claim(Claim claim);
  void give_up_claim();

  EpollLinks& epoll_links() { return epoll_links_; }

  // Once, before anybody else can see the file: where a file lies that create_and_open made.
  void set_path(Path path) { path_ = std::move(path); }

 protected:
  FileDescription(const OpenRequest& request, Ref<Inode> inode, Positioning positioning);
  ~FileDescription() override;
  void last_reference_gone() override;

  // Up to to.remaining() bytes from `offset`. Streams ignore the offset.
  virtual Result<size_t> do_read(IoBuffers& to, uint64_t offset);
  // With options.append `offset` is set to where the data went. Implementations call
  // limit_write() for regular files.
  virtual Result<size_t> do_write(IoBuffers& from, uint64_t& offset, const WriteOptions& options);
  // SEEK_DATA and SEEK_HOLE, with offset < size checked. The default knows no holes.
  virtual Result<uint64_t> find_data(uint64_t offset, uint64_t size, bool hole);
  // lseek of a stream: ESPIPE. Some accept it without effect (fs/read_write.c: noop_llseek).
  virtual Result<uint64_t> seek_stream() { return Errno::kSPipe; }
  // The position after lseek; the default does it by inode size. Called with the offset lock.
  virtual Result<uint64_t> do_seek(uint64_t position, int64_t offset, int whence);
  virtual Result<void> do_truncate(uint64_t size);
  virtual Result<void> do_allocate(int mode, uint64_t offset, uint64_t length);  // EOPNOTSUPP
  // Adds entries from `position` on and moves it; "." and ".." come first.
  virtual Result<void> do_iterate(uint64_t& position, DirectorySink& sink);
  // Called by set_flags after the change, for objects that keep a copy of a flag.
  virtual void flags_changed(int) {}

  // Cuts `from` so that it ends at options.size_limit; EFBIG when nothing is left of it.
  static Result<void> limit_write(IoBuffers& from, uint64_t offset, const WriteOptions& options);

 private:
  Path path_;
  const Ref<Inode> inode_;
  const Ref<Credentials> opener_;
  const Positioning positioning_;
  std::atomic<int> flags_;
  Claim claim_ = Claim::kNone;
  EpollLinks epoll_links_;

  // Serialises what moves the position. Outermost of all: proc's reads look at anything.
  Mutex offset_mutex_{Rank::kFileOffset};
  std::atomic<uint64_t> offset_{0};  // written with offset_mutex_ held
  std::atomic<AsyncOwner> async_owner_{};
};

// A file of O_PATH: a place, nothing more. Everything but fstat and the *at calls is EBADF.
Ref<FileDescription> open_path_only(Path path, int flags, Ref<Credentials> credentials);

}  // namespace boxrun::vfs
