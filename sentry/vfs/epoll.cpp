#include "sentry/vfs/epoll.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>

#include "sentry/vfs/file_system.h"

namespace boxrun::vfs {
namespace {

constexpr uint32_t kModes = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr uint32_t kExclusiveOk = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET |
                                  EPOLLEXCLUSIVE;  // EPOLLEXCLUSIVE_OK_BITS
constexpr int kMaxNests = 4;                       // EP_MAX_NESTS of fs/eventpoll.c

}  // namespace

// One file in one epoll. The epoll's map and the file's links hold it by reference; whoever of the
// two goes away first severs it, under mutex_, so neither is ever used after its end.
class Epoll::Watch final : public FileWatch, public Waiter {
 public:
  Watch(Epoll& epoll, int fd, FileDescription& file, Interest interest)
      : key_(fd, &file), epoll_(&epoll), file_(&file), interest_(interest) {}

  const Key& key() const { return key_; }

  // Starts to listen, and takes the first look.
  void start() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    if (file_ == nullptr || epoll_ == nullptr) return;
    listen_locked();
    epoll_->push(*this);
  }

  Result<void> modify(Interest interest) EXCLUDES(mutex_) {
    Lock lock(mutex_);
    if ((interest_.events & EPOLLEXCLUSIVE) != 0) return Errno::kInval;
    if (file_ == nullptr) return Errno::kNoEnt;
    interest_ = interest;
    listen_locked();
    epoll_->push(*this);
    return {};
  }

  // What the file has of what is wanted, and what to do with the watch afterwards.
  struct Report {
    Events events = 0;
    Interest interest;
    bool stays = false;  // level-triggered: a candidate still
  };
  Report ask(bool consume) EXCLUDES(mutex_) {
    Report report;
    Ref<FileDescription> file;
    {
      Lock lock(mutex_);
      if (file_ == nullptr || !file_->try_ref()) return report;
      file = adopt_ref(file_);
      report.interest = interest_;
    }
    const uint32_t wanted = report.interest.events & ~kModes;
    if (wanted == 0) return report;  // a one-shot that has fired
    report.events = file->ready() & (wanted | EPOLLERR | EPOLLHUP);
    if (report.events == 0 || !consume) return report;
    report.stays = (report.interest.events & (EPOLLET | EPOLLONESHOT)) == 0;
    if ((report.interest.events & EPOLLONESHOT) != 0) {
      Lock lock(mutex_);
      interest_.events &= kModes;
    }
    return report;
  }

  // The epoll lets go.
  void sever() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    epoll_ = nullptr;
    entry_.reset();
    if (file_ == nullptr) return;
    file_->epoll_links().remove(*this);
    file_ = nullptr;
  }

  void file_gone() override EXCLUDES(mutex_) {
    Lock lock(mutex_);
    entry_.reset();
    file_ = nullptr;
    // Under mutex_ the epoll is still there: it severs its watches before it goes.
    if (epoll_ != nullptr) epoll_->forget(*this);
  }

  Ref<FileDescription> watcher() override EXCLUDES(mutex_) {
    Lock lock(mutex_);
    if (epoll_ == nullptr || !epoll_->try_ref()) return nullptr;
    return adopt_ref<FileDescription>(epoll_);
  }

  // The watched file, while anybody has it open.
  Ref<FileDescription> file() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    if (file_ == nullptr || !file_->try_ref()) return nullptr;
    return adopt_ref(file_);
  }

  Interest interest() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    return interest_;
  }

 private:
  friend class Epoll;

  // Under the lock of the file's queue, and so before entry_ can go: epoll_ is alive.
  const FutexWord* notified(Events) override {
    listening_->push(*this);
    return nullptr;
  }

  void listen_locked() REQUIRES(mutex_) {
    entry_.reset();
    const Events mask = (interest_.events & ~kModes) | EPOLLERR | EPOLLHUP;
    const auto mode = (interest_.events & EPOLLEXCLUSIVE) != 0 ? WaitQueue::Mode::kExclusive
                                                               : WaitQueue::Mode::kShared;
    listening_ = epoll_;
    entry_.emplace(*file_->queue(), mask, *this, mode);
  }

  const Key key_;
  Mutex mutex_{Rank::kPipe};
  Epoll* epoll_ GUARDED_BY(mutex_);
  FileDescription* file_ GUARDED_BY(mutex_);
  Interest interest_ GUARDED_BY(mutex_);
  std::optional<WaitQueue::Entry> entry_ GUARDED_BY(mutex_);
  Epoll* listening_ = nullptr;  // fixed while entry_ exists
  std::atomic<bool> queued_{false};
  Watch* next_pending_ = nullptr;  // in Epoll::pending_, which holds a reference
};

Ref<Epoll> Epoll::create(const Ref<Mount>& mount, Ref<Credentials> credentials) {
  Path path = AnonymousFileSystem::make(mount, FileType::kUnknown, 0600, "anon_inode:[eventpoll]",
                                        *credentials);
  Ref<Inode> inode = path.dentry->inode();
  const OpenRequest request{O_RDWR, std::move(path), std::move(credentials)};
  return adopt_ref(new Epoll(request, std::move(inode)));
}

Epoll::Epoll(const OpenRequest& request, Ref<Inode> inode)
    : FileDescription(request, std::move(inode), Positioning::kStream) {}

Epoll::~Epoll() {
  Lock lock(mutex_);
  take_pending_locked();
}

void Epoll::last_reference_gone() {
  std::map<Key, Ref<Watch>> watches;
  {
    Lock lock(mutex_);
    watches.swap(watches_);
  }
  auto& file_system = static_cast<AnonymousFileSystem&>(inode().file_system());
  for (const auto& [key, watch] : watches) {
    watch->sever();
    file_system.release_watch();
  }
  FileDescription::last_reference_gone();
}

void Epoll::push(Watch& watch) {
  if (!watch.queued_.exchange(true, std::memory_order_acq_rel)) {
    watch.ref();
    Watch* top = pending_.load(std::memory_order_relaxed);
    do {
      watch.next_pending_ = top;
    } while (!pending_.compare_exchange_weak(top, &watch, std::memory_order_acq_rel));
  }
  queue_.notify(kReadable);
}

void Epoll::take_pending_locked() {
  Watch* top = pending_.exchange(nullptr, std::memory_order_acq_rel);
  const size_t older = candidates_.size();
  for (; top != nullptr; top = top->next_pending_) candidates_.push_back(adopt_ref(top));
  std::reverse(candidates_.begin() + static_cast<std::ptrdiff_t>(older), candidates_.end());
}

void Epoll::forget(const Watch& watch) {
  Ref<Watch> gone;  // the caller has another reference
  Lock lock(mutex_);
  const auto at = watches_.find(watch.key());
  if (at == watches_.end() || at->second.get() != &watch) return;
  gone = std::move(at->second);
  watches_.erase(at);
  static_cast<AnonymousFileSystem&>(inode().file_system()).release_watch();
}

Ref<Epoll::Watch> Epoll::find_locked(int fd, const FileDescription& file) {
  const auto at = watches_.find(Key{fd, &file});
  return at == watches_.end() ? nullptr : at->second;
}

Result<void> Epoll::add(int fd, const Ref<FileDescription>& file, Interest interest) {
  if (file->queue() == nullptr) return Errno::kPerm;
  Epoll* inner = of(*file);
  if (inner == this) return Errno::kInval;
  if ((interest.events & EPOLLEXCLUSIVE) != 0 &&
      ((interest.events & ~kExclusiveOk) != 0 || inner != nullptr)) {
    return Errno::kInval;
  }
  // Who nests epolls does so one at a time, so that two cannot close a cycle together.
  std::optional<Lock> nesting;
  if (inner != nullptr) {
    nesting.emplace(inode().file_system().rename_mutex());
    TRY(check_nesting(*inner));
  }
  auto& file_system = static_cast<AnonymousFileSystem&>(inode().file_system());
  TRY(file_system.charge_watch());
  interest.events |= EPOLLERR | EPOLLHUP;
  Ref<Watch> watch = make_ref<Watch>(*this, fd, *file, interest);
  {
    Lock lock(mutex_);
    if (find_locked(fd, *file)) {
      file_system.release_watch();
      return Errno::kExist;
    }
    watches_.emplace(Key{fd, file.get()}, watch);
  }
  file->epoll_links().add(watch);
  watch->start();
  return {};
}

Result<void> Epoll::modify(int fd, const Ref<FileDescription>& file, Interest interest) {
  Ref<Watch> watch;
  {
    Lock lock(mutex_);
    watch = find_locked(fd, *file);
  }
  if (!watch) return Errno::kNoEnt;
  if ((interest.events & EPOLLEXCLUSIVE) != 0) return Errno::kInval;
  interest.events |= EPOLLERR | EPOLLHUP;
  return watch->modify(interest);
}

Result<void> Epoll::remove(int fd, const Ref<FileDescription>& file) {
  Ref<Watch> watch;
  {
    Lock lock(mutex_);
    watch = find_locked(fd, *file);
    if (!watch) return Errno::kNoEnt;
    watches_.erase(watch->key());
  }
  static_cast<AnonymousFileSystem&>(inode().file_system()).release_watch();
  watch->sever();
  return {};
}

Result<std::vector<Epoll::Interest>> Epoll::collect(size_t max) {
  std::vector<Ref<Watch>> asked;
  {
    Lock lock(mutex_);
    take_pending_locked();
    const size_t count = candidates_.size();
    asked.assign(std::make_move_iterator(candidates_.begin()),
                 std::make_move_iterator(candidates_.begin() + static_cast<std::ptrdiff_t>(count)));
    candidates_.clear();
  }
  std::vector<Interest> out;
  std::vector<Ref<Watch>> back;
  std::vector<Ref<Watch>> untouched;
  for (Ref<Watch>& watch : asked) {
    if (out.size() == max) {
      untouched.push_back(std::move(watch));
      continue;
    }
    // From here on a notification makes it a candidate again: asking comes after.
    watch->queued_.store(false, std::memory_order_seq_cst);
    const Watch::Report report = watch->ask(true);
    if (report.events == 0) continue;
    out.push_back({report.events, report.interest.data});
    if (report.stays && !watch->queued_.exchange(true)) back.push_back(std::move(watch));
  }
  const bool left = !back.empty() || !untouched.empty();
  if (left) {
    Lock lock(mutex_);
    candidates_.insert(candidates_.begin(), std::make_move_iterator(untouched.begin()),
                       std::make_move_iterator(untouched.end()));
    // What was reported goes to the end, so that others get their turn (epoll(7), "starvation").
    candidates_.insert(candidates_.end(), std::make_move_iterator(back.begin()),
                       std::make_move_iterator(back.end()));
  }
  // Others who wait here may have found the list empty meanwhile.
  if (left) queue_.notify(kReadable);
  if (out.empty()) return Errno::kAgain;
  return out;
}

Events Epoll::ready() {
  std::vector<Ref<Watch>> asked;
  {
    Lock lock(mutex_);
    take_pending_locked();
    asked.assign(candidates_.begin(), candidates_.end());
  }
  for (const Ref<Watch>& watch : asked) {
    if (watch->ask(false).events != 0) return kReadable;
  }
  return 0;
}

std::vector<Ref<FileDescription>> Epoll::epolls_below() {
  std::vector<Ref<Watch>> watches;
  {
    Lock lock(mutex_);
    for (const auto& [key, watch] : watches_) watches.push_back(watch);
  }
  std::vector<Ref<FileDescription>> epolls;
  for (const Ref<Watch>& watch : watches) {
    Ref<FileDescription> file = watch->file();
    if (file && of(*file) != nullptr) epolls.push_back(std::move(file));
  }
  return epolls;
}

std::vector<Ref<FileDescription>> Epoll::epolls_above() {
  std::vector<Ref<FileDescription>> epolls;
  for (const Ref<FileWatch>& watch : epoll_links().list()) {
    if (Ref<FileDescription> outer = watch->watcher()) epolls.push_back(std::move(outer));
  }
  return epolls;
}

// fs/eventpoll.c: ep_loop_check. No cycle, and chains of at most kMaxNests links; the longest one
// is found level by level, since the paths are too many to be followed one by one.
Result<void> Epoll::check_nesting(Epoll& inner) {
  int links = 1;
  const auto climb = [&](Epoll& from, auto next) -> Result<void> {
    std::map<FileDescription*, Ref<FileDescription>> level{{&from, Ref<FileDescription>(&from)}};
    for (;;) {
      std::map<FileDescription*, Ref<FileDescription>> further;
      for (const auto& [file, ref] : level) {
        for (Ref<FileDescription>& epoll : next(*of(*file))) {
          FileDescription* key = epoll.get();
          further.emplace(key, std::move(epoll));
        }
      }
      if (further.empty()) return {};
      if (further.count(this) != 0 || ++links > kMaxNests) return Errno::kLoop;
      level.swap(further);
    }
  };
  TRY(climb(inner, [](Epoll& epoll) { return epoll.epolls_below(); }));
  return climb(*this, [](Epoll& epoll) { return epoll.epolls_above(); });
}

std::string Epoll::describe() {
  std::vector<Ref<Watch>> watches;
  {
    Lock lock(mutex_);
    for (const auto& [key, watch] : watches_) watches.push_back(watch);
  }
  std::string text;
  char line[80];
  for (const Ref<Watch>& watch : watches) {
    const Interest interest = watch->interest();
    const int size =
        snprintf(line, sizeof line, "tfd: %8d events: %8x data: %16llx\n", watch->key().first,
                 interest.events, static_cast<unsigned long long>(interest.data));
    text.append(line, static_cast<size_t>(size));
  }
  return text;
}

}  // namespace boxrun::vfs
