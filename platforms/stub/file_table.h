#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "platforms/stub/seed.h"

namespace boxrun::platform {

// The descriptors that stubs can map: the memory file at its fixed number, and donated host files,
// each brought over by the seed when first mapped and kept for the next process that maps it (a C
// library is mapped by every program), least recently used out first. Thread-safe.
class FileTable {
 public:
  // `memory_file` is borrowed for the life of the table; the seed has it as kStubMemoryFd.
  FileTable(Seed& seed, int memory_file) : seed_(seed), memory_file_(memory_file) {}
  FileTable(const FileTable&) = delete;
  FileTable& operator=(const FileTable&) = delete;

  // Keeps one descriptor in the stubs' table while it is being mapped.
  class Use {
   public:
    Use(Use&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)), number_(other.number_) {}
    Use& operator=(Use&&) = delete;
    ~Use();
    int number() const { return number_; }

   private:
    friend class FileTable;
    Use(FileTable* table, int number) : table_(table), number_(number) {}
    FileTable* table_;
    int number_;
  };
  Result<Use> use(int fd);

 private:
  // Two descriptors with the same key map the same pages with the same rights: the dynamic linker
  // relies on the uniqueness of device and inode number, too. No inode number can be used again
  // while the table holds the file.
  using Key = std::tuple<dev_t, ino_t, int>;
  struct Entry {
    int number;
    uint32_t users;
    uint64_t last_use;
  };
  static constexpr size_t kMaxFiles = 200;

  void release(int number);
  bool evict_one_locked() REQUIRES(mutex_);

  Seed& seed_;
  const int memory_file_;
  Mutex mutex_{Rank::kStubFiles};
  std::map<Key, Entry> entries_ GUARDED_BY(mutex_);
  uint64_t clock_ GUARDED_BY(mutex_) = 0;
};

}  // namespace boxrun::platform
