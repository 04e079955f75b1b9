// A file system over another one that never changes it (the default for the working directory).
// Unlike Linux's overlayfs there is no second tree: every inode here stands for a lower inode, and
// what the guest changes about it is kept beside it. A directory remembers only the names that
// differ from the lower one; a file gets a copy of its data when it is first written to. Renaming
// a directory therefore moves one pointer, and hard links are two names of one inode.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/fs/tmp_fs.h"
#include "sentry/time/clock.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/inode.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::fs {

class OverlayInode;

class OverlayFs final : public vfs::FileSystem {
 public:
  // `lower` is shown, `upper` (empty, used by nobody else) holds attributes and data of what
  // differs. Both are kept alive. A `lower` that is not a directory shows a single file.
  static Ref<OverlayFs> create(uint64_t device, Ref<vfs::FileSystem> lower, Ref<TmpFs> upper);

  Ref<vfs::Inode> root() override;
  Result<vfs::Statistics> statistics() override;

  // How a name differs from the lower file system.
  struct Difference {
    enum class Op : uint8_t { kAdded, kModified, kDeleted } op;
    std::string path;  // relative to the root, without a leading slash; "" is the root
  };
  // What the guest changed, sorted by path: at most `max` of it, and of paths that are short enough
  // to be told together.
  std::vector<Difference> differences(size_t max) EXCLUDES(mutex_);

 private:
  friend class OverlayInode;
  OverlayFs(uint64_t device, Ref<vfs::FileSystem> lower, Ref<TmpFs> upper);
  ~OverlayFs() override;

  // The one inode that stands for `lower`, met as `name` in `parent`.
  Ref<OverlayInode> wrap(Ref<vfs::Inode> lower, Ref<OverlayInode> parent, std::string_view name)
      EXCLUDES(mutex_);
  // A file that only exists here.
  Result<Ref<OverlayInode>> make(const vfs::NewNode& node) EXCLUDES(mutex_);

  const Ref<vfs::FileSystem> lower_;
  const Ref<TmpFs> upper_;
  Ref<OverlayInode> root_;  // fixed after construction

  // Everything about names and attributes; held while upper inodes are used, never while the lower
  // file system is asked.
  Mutex mutex_{Rank::kOverlay};
  std::map<const vfs::Inode*, OverlayInode*> by_lower_ GUARDED_BY(mutex_);
  // Files that differ from a lower one with several names: each of the names must find them, and
  // only some are remembered by their directories. Until the last name is gone.
  std::map<const OverlayInode*, Ref<OverlayInode>> shared_ GUARDED_BY(mutex_);
};

class OverlayInode final : public vfs::Inode {
 public:
  ~OverlayInode() override;

  Result<vfs::Attributes> attributes() override;
  Result<void> change(const vfs::AttributeChange& change) override;
  Result<Ref<vfs::Inode>> lookup(std::string_view name) override;
  void lookup_path(std::span<const std::string_view> names, const vfs::LookupIntent& intent,
                   vfs::LookupResult& out) override;
  bool entry_is_current(const vfs::CachedEntry& entry) override;
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::NewNode& node) override;
  Result<Ref<vfs::Inode>> create_unnamed(const vfs::NewNode& node) override;
  Result<void> link(std::string_view name, vfs::Inode& target) override;
  Result<void> unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> rename(std::string_view old_name, vfs::Inode& moved, vfs::Inode& new_dir,
                      std::string_view new_name, vfs::Inode* replaced, uint32_t flags) override;
  Result<std::string> read_link() override;
  Result<Ref<vfs::FileDescription>> open(const vfs::OpenRequest& request) override;
  Ref<mm::PageSource> page_source() override;
  Result<std::string> get_xattr(std::string_view name) override;
  Result<void> set_xattr(std::string_view name, std::string_view value,
                         vfs::XattrCreate how) override;
  Result<void> remove_xattr(std::string_view name) override;
  Result<std::vector<std::string>> list_xattr() override;

  // --- for open files
  const Ref<vfs::Inode>& lower() const { return lower_; }
  // The copy of the data, if there is one already.
  Ref<FileData> copied_data() EXCLUDES(fs_.mutex_);
  // Makes the copy on first use. `keep` bytes from the start are copied: UINT64_MAX all, 0 none.
  Result<Ref<FileData>> data_for_write(uint64_t keep) EXCLUDES(fs_.mutex_);
  // After a write: times, and setuid and setgid that `who` may not keep.
  Result<void> written(const Credentials& who) EXCLUDES(fs_.mutex_);
  // Names of this directory, merged: what iteration shows.
  struct Listed {
    std::string name;
    uint64_t ino;
    vfs::FileType type;
  };
  Result<std::vector<Listed>> list() EXCLUDES(fs_.mutex_);

 private:
  friend class OverlayFs;
  // A name that is not as in the lower directory, or whose inode differs from it.
  struct Entry {
    Ref<OverlayInode> inode;    // null: deleted (a whiteout)
    bool covers_lower = false;  // the lower directory has this name, too
    bool in_place = false;      // the inode stands for what the lower directory has here
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  OverlayInode(OverlayFs& fs, vfs::FileType type, Ref<vfs::Inode> lower, Ref<TmpInode> upper);
  Result<Ref<TmpInode>> upper_for_write() EXCLUDES(fs_.mutex_);
  Result<vfs::Attributes> lower_attributes() EXCLUDES(fs_.mutex_);
  Result<vfs::NewNode> copy_of_lower();
  Result<void> copy_xattrs(TmpInode& to);
  Result<void> copy_data(FileData& to, uint64_t bytes);
  uint32_t links_of_lower(uint32_t links, int change) const;
  void forget_lower_locked();
  void pin_to_parent_locked();
  void add_entry_locked(std::string_view name, Entry entry);
  void put_locked(std::string_view name, Ref<OverlayInode> inode);
  void take_locked(std::string_view name);
  void touch_locked();
  void name_lost_locked();
  bool is_modified_locked() const;

  // fs_.mutex_ guards what is not const here, and is held by the _locked functions. Annotations
  // cannot say so: the analysis does not know that all inodes of a directory have one fs_.
  OverlayFs& fs_;
  const Ref<vfs::Inode> lower_;           // null: only exists here
  Mutex copy_mutex_{Rank::kOverlayCopy};  // one copy-up at a time; held while it reads `lower_`

  std::optional<vfs::Attributes> lower_seen_;  // by the last lower_attributes()
  Ref<TmpInode> upper_;                        // null: attributes are the lower ones
  bool data_copied_;                           // regular files: data is upper_'s
  bool attributes_changed_ = false;
  uint32_t links_ = 0;        // names of a file without a lower inode
  uint32_t lower_links_ = 0;  // names of the lower inode when upper_ was made
  bool linkable_ = false;     // an O_TMPFILE that may still get its first name
  bool removed_ = false;      // directories
  // Links more than the lower inode has; of a directory, subdirectories.
  int link_change_ = 0;
  Entries entries_;  // each one charged to upper_'s file system
  // Where it was found, until a change makes the parent remember it.
  Ref<OverlayInode> found_in_;
  std::string found_as_;
};

}  // namespace boxrun::fs
