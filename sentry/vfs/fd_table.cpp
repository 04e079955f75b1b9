#include "sentry/vfs/fd_table.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace boxrun::vfs {
namespace {

constexpr size_t kFirstCapacity = 64;  // NR_OPEN_DEFAULT

// fs/file.c: alloc_fdtable. Programs see it in FDSize and in which bits select(2) looks at.
size_t capacity_for(size_t fd) {
  constexpr size_t kStep = 128;
  return fd < kFirstCapacity ? kFirstCapacity : std::bit_ceil(fd / kStep + 1) * kStep;
}

}  // namespace

Result<Ref<FileDescription>> FdTable::get(int fd) const {
  Ref<FileDescription> file = TRY(get_raw(fd));
  if (file->is_path()) return Errno::kBadF;
  return file;
}

Result<Ref<FileDescription>> FdTable::get_raw(int fd) const {
  Lock lock(mutex_);
  const size_t index = static_cast<uint32_t>(fd);
  if (index >= entries_.size() || !entries_[index].file) return Errno::kBadF;
  return entries_[index].file;
}

Result<FdTable::OnExec> FdTable::on_exec(int fd) const {
  Lock lock(mutex_);
  const size_t index = static_cast<uint32_t>(fd);
  if (index >= entries_.size() || !entries_[index].file) return Errno::kBadF;
  return entries_[index].on_exec;
}

Result<void> FdTable::set_on_exec(int fd, OnExec on_exec) {
  Lock lock(mutex_);
  const size_t index = static_cast<uint32_t>(fd);
  if (index >= entries_.size() || !entries_[index].file) return Errno::kBadF;
  entries_[index].on_exec = on_exec;
  return {};
}

int FdTable::lowest_free_locked(int from) const {
  size_t fd = static_cast<size_t>(std::max(from, first_free_));
  while (fd < entries_.size() && entries_[fd].file) fd++;
  return static_cast<int>(fd);
}

void FdTable::put_locked(int fd, Entry entry) {
  const auto index = static_cast<size_t>(fd);
  if (index >= entries_.size()) entries_.resize(capacity_for(index));
  entries_[index] = std::move(entry);
  if (fd == first_free_) first_free_++;
}

FdTable::Entry FdTable::take_locked(int fd) {
  first_free_ = std::min(first_free_, fd);
  return std::exchange(entries_[static_cast<size_t>(fd)], {});
}

Result<int> FdTable::install(Ref<FileDescription> file, OnExec on_exec, uint64_t limit,
                             int lowest) {
  limit = std::min<uint64_t>(limit, kMaxFds);
  if (lowest < 0 || static_cast<uint64_t>(lowest) >= limit) {
    return lowest == 0 ? Errno::kMFile : Errno::kInval;
  }
  Lock lock(mutex_);
  const int fd = lowest_free_locked(lowest);
  if (static_cast<uint64_t>(fd) >= limit) return Errno::kMFile;
  put_locked(fd, {std::move(file), on_exec});
  return fd;
}

Result<FdTable::Pair> FdTable::install_pair(Ref<FileDescription> first, Ref<FileDescription> second,
                                            OnExec on_exec, uint64_t limit) {
  limit = std::min<uint64_t>(limit, kMaxFds);
  Lock lock(mutex_);
  Pair pair{};
  pair.first = lowest_free_locked(0);
  pair.second = lowest_free_locked(pair.first + 1);
  if (static_cast<uint64_t>(pair.second) >= limit) return Errno::kMFile;
  put_locked(pair.first, {std::move(first), on_exec});
  put_locked(pair.second, {std::move(second), on_exec});
  return pair;
}

Result<int> FdTable::replace(int from, int to, OnExec on_exec, uint64_t limit) {
  limit = std::min<uint64_t>(limit, kMaxFds);
  if (to < 0 || static_cast<uint64_t>(to) >= limit) return Errno::kBadF;
  Ref<FileDescription> file = TRY(get_raw(from));
  Entry old;
  {
    Lock lock(mutex_);
    if (static_cast<size_t>(to) < entries_.size()) old = take_locked(to);
    put_locked(to, {std::move(file), on_exec});
  }
  if (old.file) release(std::move(old));
  return to;
}

Result<void> FdTable::close(int fd) {
  Entry entry;
  {
    Lock lock(mutex_);
    const size_t index = static_cast<uint32_t>(fd);
    if (index >= entries_.size() || !entries_[index].file) return Errno::kBadF;
    entry = take_locked(fd);
  }
  if (entry.file->is_path()) return {};
  entry.file->closed_by(this);
  return entry.file->flush();
}

void FdTable::release(Entry entry) {
  const Ref<FileDescription> file = std::move(entry.file);
  if (file->is_path()) return;
  file->closed_by(this);
  // Nobody is there to be told of an error: dup2(2), close_range(2).
  static_cast<void>(file->flush());
}

void FdTable::close_where(uint32_t first, uint32_t last, bool only_on_exec) {
  std::vector<Entry> gone;
  {
    Lock lock(mutex_);
    const size_t end = std::min(static_cast<size_t>(last) + 1, entries_.size());
    for (size_t fd = first; fd < end; fd++) {
      const Entry& entry = entries_[fd];
      if (!entry.file || (only_on_exec && entry.on_exec != OnExec::kClose)) continue;
      gone.push_back(take_locked(static_cast<int>(fd)));
    }
  }
  for (Entry& entry : gone) release(std::move(entry));
}

void FdTable::close_range(uint32_t first, uint32_t last) { close_where(first, last, false); }
void FdTable::close_on_exec() { close_where(0, UINT32_MAX, true); }
void FdTable::last_reference_gone() {
  close_all();
  RefCounted::last_reference_gone();
}

void FdTable::close_all() { close_where(0, UINT32_MAX, false); }

void FdTable::mark_range(uint32_t first, uint32_t last, OnExec on_exec) {
  Lock lock(mutex_);
  const size_t end = std::min(static_cast<size_t>(last) + 1, entries_.size());
  for (size_t fd = first; fd < end; fd++) entries_[fd].on_exec = on_exec;
}

Ref<FdTable> FdTable::clone() const {
  Ref<FdTable> copy = make_ref<FdTable>();
  Lock lock(mutex_);
  // The copy is not shared yet; a second lock of one rank is not needed for it.
  FdTable& target = *copy;
  [&]() NO_THREAD_SAFETY_ANALYSIS {
    target.entries_ = entries_;
    target.first_free_ = first_free_;
  }();
  return copy;
}

std::vector<int> FdTable::list(int from, size_t max) const {
  std::vector<int> fds;
  Lock lock(mutex_);
  for (size_t fd = static_cast<size_t>(std::max(from, 0)); fd < entries_.size(); fd++) {
    if (fds.size() == max) break;
    if (entries_[fd].file) fds.push_back(static_cast<int>(fd));
  }
  return fds;
}

size_t FdTable::capacity() const {
  Lock lock(mutex_);
  return std::max(entries_.size(), kFirstCapacity);
}

}  // namespace boxrun::vfs
