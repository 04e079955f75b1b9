#include "sentry/fs/event_fd.h"

#include <sys/eventfd.h>

#include <string>
#include <utility>

#include "sentry/vfs/anonymous.h"

namespace boxrun::fs {
namespace {

constexpr uint64_t kMax = UINT64_MAX - 1;  // the greatest count that a write may lead to

class EventFd final : public vfs::FileDescription {
 public:
  EventFd(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, uint64_t initial, bool semaphore)
      : FileDescription(request, std::move(inode), Positioning::kStream),
        semaphore_(semaphore),
        count_(initial) {}

  Events ready() override {
    Lock lock(mutex_);
    return (count_ > 0 ? kReadable : 0) | (count_ < kMax ? kWritable : 0);
  }
  WaitQueue* queue() override { return &queue_; }

  std::string describe() override {
    char line[64];
    Lock lock(mutex_);
    const int size = snprintf(line, sizeof line, "eventfd-count: %16llx\n",
                              static_cast<unsigned long long>(count_));
    return {line, static_cast<size_t>(size)};
  }

 private:
  Result<uint64_t> seek_stream() override { return uint64_t{0}; }
  Result<size_t> do_read(IoBuffers& to, uint64_t) override {
    if (to.remaining() < sizeof(uint64_t)) return Errno::kInval;
    uint64_t value = 0;
    {
      Lock lock(mutex_);
      if (count_ == 0) return Errno::kAgain;
      value = semaphore_ ? 1 : count_;
      count_ -= value;
    }
    queue_.notify(kWritable);
    return to.put(bytes_of(value));
  }

  Result<size_t> do_write(IoBuffers& from, uint64_t&, const vfs::WriteOptions&) override {
    uint64_t value = 0;
    if (from.remaining() < sizeof value) return Errno::kInval;
    // A blocked write comes here again: the value stays where it is until it is added.
    IoBuffers look = from;
    TRY(look.take(writable_bytes_of(value)));
    if (value == UINT64_MAX) return Errno::kInval;
    {
      Lock lock(mutex_);
      if (value > kMax - count_) return Errno::kAgain;
      count_ += value;
    }
    from = look;
    queue_.notify(kReadable);
    return sizeof value;
  }

  const bool semaphore_;
  WaitQueue queue_;
  Mutex mutex_{Rank::kPipe};
  uint64_t count_ GUARDED_BY(mutex_);
};

}  // namespace

Result<Ref<vfs::FileDescription>> create_event_fd(const Ref<vfs::Mount>& mount, uint32_t initial,
                                                  int flags, Ref<Credentials> credentials) {
  if ((flags & ~(EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC)) != 0) return Errno::kInval;
  vfs::Path path = vfs::AnonymousFileSystem::make(mount, vfs::FileType::kUnknown, 0600,
                                                  "anon_inode:[eventfd]", *credentials);
  Ref<vfs::Inode> inode = path.dentry->inode();
  const vfs::OpenRequest request{O_RDWR | (flags & O_NONBLOCK), std::move(path),
                                 std::move(credentials)};
  return Ref<vfs::FileDescription>(
      make_ref<EventFd>(request, std::move(inode), initial, (flags & EFD_SEMAPHORE) != 0));
}

}  // namespace boxrun::fs
