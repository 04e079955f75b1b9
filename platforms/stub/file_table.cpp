#include "platforms/stub/file_table.h"

#include <fcntl.h>

#include <utility>

#include "src/base/file_status.h"

namespace boxrun::platform {

FileTable::Use::~Use() {
  if (table_ != nullptr) table_->release(number_);
}

Result<FileTable::Use> FileTable::use(int fd) {
  if (fd >= 0 && fd == memory_file_) return Use(nullptr, kStubMemoryFd);
  const struct stat status = TRY(file_status(fd));
  const int flags = TRY(host_result(::fcntl(fd, F_GETFL)));
  const Key key{status.st_dev, status.st_ino, flags & (O_ACCMODE | O_PATH)};
  Lock lock(mutex_);
  auto it = entries_.find(key);
  if (it == entries_.end()) {
    while (entries_.size() >= kMaxFiles && evict_one_locked()) {
    }
    Result<int> number = seed_.install(fd);
    while (number.error() == Errno::kMFile && evict_one_locked()) number = seed_.install(fd);
    it = entries_.emplace(key, Entry{TRY(std::move(number)), 0, 0}).first;
  }
  it->second.users++;
  it->second.last_use = ++clock_;
  return Use(this, it->second.number);
}

void FileTable::release(int number) {
  Lock lock(mutex_);
  for (auto& [key, entry] : entries_) {
    if (entry.number == number) entry.users--;
  }
}

bool FileTable::evict_one_locked() {
  auto oldest = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->second.users != 0) continue;
    if (oldest == entries_.end() || it->second.last_use < oldest->second.last_use) oldest = it;
  }
  if (oldest == entries_.end()) return false;
  seed_.discard(oldest->second.number);
  entries_.erase(oldest);
  return true;
}

}  // namespace boxrun::platform
