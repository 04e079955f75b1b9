// A file system in the sandbox's memory (tmpfs(5)): /tmp, /dev/shm, memfds, the upper layer of
// overlays. Directory entries and attributes are objects of the Sentry, bounded by max_inodes and,
// like the contents of files, which are extents of the memory file (FileData), by its limit.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/fs/file_data.h"
#include "sentry/mm/memory_file.h"
#include "sentry/time/clock.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/inode.h"

namespace boxrun::fs {

class TmpInode;

class TmpFs final : public vfs::FileSystem {
 public:
  struct Config {
    uint64_t device = 0;
    uint64_t size_limit = UINT64_MAX / 2;  // bytes, of data, attributes and symlinks
    uint64_t max_inodes = 0;               // 0: as many as the memory limit is enough for
    mode_t root_mode = 01777;
    uid_t uid = 0;
    gid_t gid = 0;
    mm::Storage storage = mm::Storage::kMemory;  // of the contents of files
    std::string type = "tmpfs";
  };
  // `memory` and `clock` outlive the file system.
  static Ref<TmpFs> create(Config config, mm::MemoryFile& memory, const Clock& clock);

  Ref<vfs::Inode> root() override;
  Result<vfs::Statistics> statistics() override EXCLUDES(mutex_);
  const Ref<SpaceQuota>& quota() const { return quota_; }

  // For the overlay above: names that it keeps itself are of the memory limit, too. ENOSPC when
  // there is no room for one more; charge_name() does not fail.
  Result<void> room_for_name();
  void charge_name();
  void discharge_names(size_t count);

  // For memfd_create: a regular file outside the tree.
  Result<Ref<TmpInode>> make_unnamed(const vfs::NewNode& node, mm::PageSource::Identity identity,
                                     uint32_t linux_seals) EXCLUDES(mutex_);

 private:
  friend class TmpInode;
  TmpFs(Config config, mm::MemoryFile& memory, const Clock& clock);
  ~TmpFs() override;
  Result<Ref<TmpInode>> make_locked(const vfs::NewNode& node) REQUIRES(mutex_);
  // One more inode, or name of one: ENOSPC at the limit of them or of memory.
  Result<void> charge_node() REQUIRES(mutex_);
  void discharge_node();
  // Link texts and extended attributes: of the size of the file system, too.
  Result<void> charge_text(uint64_t bytes);
  void discharge_text(uint64_t bytes);
  Result<void> charge_new(const vfs::NewNode& node) REQUIRES(mutex_);

  const uint64_t max_inodes_;
  mm::MemoryFile& memory_;
  const mm::Storage storage_;
  const Clock& clock_;
  const Ref<SpaceQuota> quota_;
  std::atomic<uint64_t> inodes_{0};

  // Names and attributes of the whole file system.
  Mutex mutex_{Rank::kInode};
  uint64_t next_ino_ GUARDED_BY(mutex_) = 2;  // after the root
  Ref<TmpInode> root_;                        // fixed after construction
};

// What a directory holds: names in an order that stays the same while others come and go.
class TmpEntries {
 public:
  struct Entry {
    Ref<TmpInode> inode;
    uint64_t cookie;
  };
  TmpInode* find(std::string_view name) const;
  void add(std::string_view name, Ref<TmpInode> inode);
  Ref<TmpInode> remove(std::string_view name);
  // Returns what was there.
  Ref<TmpInode> replace(std::string_view name, Ref<TmpInode> inode);
  bool empty() const { return by_name_.empty(); }
  size_t size() const { return by_name_.size(); }
  // The first entry with a cookie >= `cookie`.
  const std::string* next(uint64_t& cookie) const;
  // Takes all of them out, for a teardown without recursion.
  std::vector<Ref<TmpInode>> take_all();

 private:
  std::map<std::string, Entry, std::less<>> by_name_;
  std::map<uint64_t, const std::string*> by_cookie_;
  uint64_t next_cookie_ = 2;  // 0 and 1 are "." and ".."
};

class TmpInode final : public vfs::Inode {
 public:
  ~TmpInode() override;

  Result<vfs::Attributes> attributes() override;
  Result<void> change(const vfs::AttributeChange& change) override;
  Result<Ref<vfs::Inode>> lookup(std::string_view name) override;
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::NewNode& node) override;
  Result<Ref<vfs::Inode>> create_unnamed(const vfs::NewNode& node) override;
  Result<void> link(std::string_view name, vfs::Inode& target) override;
  Result<void> unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_dir,
                      std::string_view new_name, vfs::Inode* replaced, uint32_t flags) override;
  Result<std::string> read_link() override;
  Result<Ref<vfs::FileDescription>> open(const vfs::OpenRequest& request) override;
  Ref<mm::PageSource> page_source() override { return data_; }
  Result<std::string> get_xattr(std::string_view name) override;
  Result<void> set_xattr(std::string_view name, std::string_view value,
                         vfs::XattrCreate how) override;
  Result<void> remove_xattr(std::string_view name) override;
  Result<std::vector<std::string>> list_xattr() override;

  // Null unless a regular file.
  const Ref<FileData>& data() const { return data_; }
  // After a read, by the rules of relatime (mount(8)).
  void accessed();
  // After a write: times, and setuid and setgid that `who` may not keep.
  void written(const Credentials& who);
  Result<void> iterate(uint64_t& position, uint64_t parent_ino, vfs::DirectorySink& sink);

 private:
  friend class TmpFs;
  TmpInode(TmpFs& fs, const vfs::NewNode& node, uint64_t ino, Ref<FileData> data);
  // Tells the thread-safety analysis that the lock it sees held is this inode's, too: all inodes of
  // one file system share it.
  void shares_lock() const BOXRUN_TSA(assert_capability(fs_.mutex_)) {}
  Result<void> check_alive_locked() const REQUIRES(fs_.mutex_);
  void entries_changed_locked(int added) REQUIRES(fs_.mutex_);
  void exchange_locked(std::string_view old_name, TmpInode& moved, TmpInode& target,
                       std::string_view new_name, TmpInode& other) REQUIRES(fs_.mutex_);
  Ref<TmpInode> move_locked(std::string_view old_name, TmpInode& moved, TmpInode& target,
                            std::string_view new_name, TmpInode* replaced) REQUIRES(fs_.mutex_);

  TmpFs& fs_;
  const Ref<FileData> data_;
  const std::string symlink_target_;
  vfs::Attributes attributes_ GUARDED_BY(fs_.mutex_);  // without size and blocks of regular files
  std::unique_ptr<TmpEntries> entries_ GUARDED_BY(fs_.mutex_);  // of a directory
  bool linkable_ GUARDED_BY(fs_.mutex_) = false;                // of an O_TMPFILE
  std::map<std::string, std::string, std::less<>> xattrs_ GUARDED_BY(fs_.mutex_);
};

}  // namespace boxrun::fs
