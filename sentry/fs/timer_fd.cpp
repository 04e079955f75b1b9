#include "sentry/fs/timer_fd.h"

#include <linux/capability.h>
#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>
#include <string>
#include <utility>

#include "sentry/vfs/anonymous.h"

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET (1 << 1)
#endif

namespace boxrun::fs {
namespace {

class TimerFd final : public vfs::FileDescription, private Timer {
 public:
  TimerFd(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, int clock_id, TimerQueue& timers,
          const Clock& clock)
      : FileDescription(request, std::move(inode), Positioning::kStream),
        clock_id_(clock_id),
        timers_(timers),
        clock_(clock) {}
  ~TimerFd() override { timers_.disarm(*this); }

  Events ready() override {
    Lock lock(mutex_);
    return expirations_ > 0 ? kReadable : 0;
  }
  WaitQueue* queue() override { return &queue_; }

  TimerSetting set(int flags, TimerSetting setting) EXCLUDES(mutex_) {
    Lock lock(mutex_);
    const TimerSetting old = get_locked();
    expirations_ = 0;
    interval_ = setting.interval;
    armed_ = setting.value != 0;
    if (!armed_) return old;  // an expiry that is on its way finds it disarmed
    const Nanos now = clock_.monotonic();
    Nanos relative = setting.value;
    if ((flags & TFD_TIMER_ABSTIME) != 0) relative -= own_now();
    // A time that has passed expires at once, and the next ones keep its phase.
    if (__builtin_add_overflow(now, relative, &deadline_)) deadline_ = INT64_MAX;
    timers_.arm(*this, deadline_);
    return old;
  }

  TimerSetting get() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    return get_locked();
  }

 private:
  Result<uint64_t> seek_stream() override { return uint64_t{0}; }
  Nanos own_now() const {
    switch (clock_id_) {
      case CLOCK_REALTIME:
      case CLOCK_REALTIME_ALARM:
        return clock_.realtime();
      case CLOCK_MONOTONIC:
        return clock_.monotonic();
      default:
        return clock_.boottime();
    }
  }

  TimerSetting get_locked() const REQUIRES(mutex_) {
    if (!armed_) return {0, interval_};
    return {std::max<Nanos>(deadline_ - clock_.monotonic(), 1), interval_};
  }

  void expired() override EXCLUDES(mutex_) {
    {
      Lock lock(mutex_);
      if (!armed_) return;
      const Nanos late = clock_.monotonic() - deadline_;
      if (late < 0) {  // set to a later time meanwhile
        timers_.arm(*this, deadline_);
        return;
      }
      if (interval_ == 0) {
        expirations_++;
        armed_ = false;
      } else {
        const Nanos missed = late / interval_;
        expirations_ += 1 + static_cast<uint64_t>(missed);
        if (__builtin_add_overflow(deadline_, (missed + 1) * interval_, &deadline_)) {
          deadline_ = INT64_MAX;
        }
        timers_.arm(*this, deadline_);
      }
    }
    queue_.notify(kReadable);
  }

  Result<size_t> do_read(IoBuffers& to, uint64_t) override {
    if (to.remaining() < sizeof(uint64_t)) return Errno::kInval;
    uint64_t expirations = 0;
    {
      Lock lock(mutex_);
      if (expirations_ == 0) return Errno::kAgain;
      expirations = std::exchange(expirations_, 0);
    }
    return to.put(bytes_of(expirations));
  }

  const int clock_id_;
  TimerQueue& timers_;
  const Clock& clock_;
  WaitQueue queue_;
  Mutex mutex_{Rank::kPipe};
  Nanos deadline_ GUARDED_BY(mutex_) = 0;  // on CLOCK_MONOTONIC
  Nanos interval_ GUARDED_BY(mutex_) = 0;
  bool armed_ GUARDED_BY(mutex_) = false;
  uint64_t expirations_ GUARDED_BY(mutex_) = 0;
};

}  // namespace

Result<Ref<vfs::FileDescription>> create_timer_fd(const Ref<vfs::Mount>& mount, int clock_id,
                                                  int flags, TimerQueue& timers, const Clock& clock,
                                                  Ref<Credentials> credentials) {
  if ((flags & ~(TFD_NONBLOCK | TFD_CLOEXEC)) != 0) return Errno::kInval;
  switch (clock_id) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
      break;
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      if (!credentials->has_capability(CAP_WAKE_ALARM)) return Errno::kPerm;
      break;
    default:
      return Errno::kInval;
  }
  vfs::Path path = vfs::AnonymousFileSystem::make(mount, vfs::FileType::kUnknown, 0600,
                                                  "anon_inode:[timerfd]", *credentials);
  Ref<vfs::Inode> inode = path.dentry->inode();
  const vfs::OpenRequest request{O_RDWR | (flags & O_NONBLOCK), std::move(path),
                                 std::move(credentials)};
  return Ref<vfs::FileDescription>(
      make_ref<TimerFd>(request, std::move(inode), clock_id, timers, clock));
}

Result<TimerSetting> set_timer_fd(vfs::FileDescription& file, int flags, TimerSetting setting) {
  auto* timer = dynamic_cast<TimerFd*>(&file);
  if (timer == nullptr) return Errno::kInval;
  // Nobody can set the clocks, so there is never anything to cancel.
  if ((flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) return Errno::kInval;
  if (setting.value < 0 || setting.interval < 0) return Errno::kInval;
  return timer->set(flags, setting);
}

Result<TimerSetting> get_timer_fd(vfs::FileDescription& file) {
  auto* timer = dynamic_cast<TimerFd*>(&file);
  if (timer == nullptr) return Errno::kInval;
  return timer->get();
}

}  // namespace boxrun::fs
