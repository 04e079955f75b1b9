#include "gofer/watches.h"

#include <linux/magic.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

namespace boxrun::gofer {
namespace {

// What changes a name, or what stat(2) tells of a file. Reading is not in it: st_atime may be old.
constexpr uint32_t kEvents = IN_ATTRIB | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MODIFY |
                             IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_ONLYDIR;

// File systems that this kernel alone changes. inotify(7): changes that other machines make to
// network file systems are not reported; nor what a FUSE server does on its own.
bool all_changes_are_seen(int fd) {
  constexpr uint64_t kXfs = 0x58465342, kF2fs = 0xF2F52010, kZfs = 0x2FC12FC1;
  constexpr std::array<uint64_t, 8> kLocal = {EXT4_SUPER_MAGIC,      kXfs,  BTRFS_SUPER_MAGIC,
                                              TMPFS_MAGIC,           kF2fs, RAMFS_MAGIC,
                                              OVERLAYFS_SUPER_MAGIC, kZfs};
  struct statfs st;
  if (::fstatfs(fd, &st) < 0) return false;
  const auto type = static_cast<uint64_t>(st.f_type);
  for (const uint64_t local : kLocal) {
    if (type == local) return true;
  }
  return false;
}

}  // namespace

std::unique_ptr<Watches> Watches::create() {
  UniqueFd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify) return nullptr;
  return std::unique_ptr<Watches>(new Watches(std::move(inotify)));
}

void Watches::enter(const ProcFds& proc) { entered_ = proc && ::fchdir(proc.number()) == 0; }

Result<UniqueFd> Watches::bell() const {
  UniqueFd bell(::epoll_create1(EPOLL_CLOEXEC));
  if (!bell) return last_error();
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (::epoll_ctl(bell.get(), EPOLL_CTL_ADD, inotify_.get(), &event) < 0) return last_error();
  return bell;
}

bool Watches::add(int directory) {
  if (!entered_ || !all_changes_are_seen(directory)) return false;
  const std::string path = std::to_string(directory);
  const Lock lock(mutex_);
  // The number of one that is there already, or a new one.
  const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), kEvents);
  if (watch < 0) return false;
  if (live_.contains(watch)) return true;
  if (live_.size() >= kMaxWatches) {
    ::inotify_rm_watch(inotify_.get(), watch);
    return false;
  }
  live_.insert(watch);
  return true;
}

void Watches::collect(std::span<std::byte> scratch) {
  for (size_t collected = 0; collected < kMaxCollected;) {
    const ssize_t size = ::read(inotify_.get(), scratch.data(), scratch.size());
    if (size <= 0) return;
    collected += static_cast<size_t>(size);
    std::span<const std::byte> rest = scratch.first(static_cast<size_t>(size));
    while (rest.size() >= sizeof(inotify_event)) {
      inotify_event event;
      std::memcpy(&event, rest.data(), sizeof event);
      rest = rest.subspan(std::min(rest.size(), sizeof event + event.len));
      if ((event.mask & IN_IGNORED) == 0) continue;  // the directory is gone, and its watch
      const Lock lock(mutex_);
      live_.erase(event.wd);
    }
  }
}

}  // namespace boxrun::gofer
