#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/cred/credentials.h"
#include "sentry/mm/page_source.h"
#include "sentry/vfs/attributes.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"

namespace boxrun::vfs {

class FileDescription;
class FileLocks;
class FileSystem;
class Inode;
struct Caller;
struct OpenRequest;
struct Path;

// What is wanted of an object, in the bits of access(2).
using AccessMask = uint32_t;
inline constexpr AccessMask kMayExec = 1, kMayWrite = 2, kMayRead = 4;

// What a path is looked up for, so that a remote file system can do it in the same round trip.
struct LookupIntent {
  // O_* flags when the last name will be opened next (Inode::open with the same access mode
  // follows, unless a permission check fails first).
  std::optional<int> open_flags;
};

// As many inodes as could be walked and, unless that is all of them, why it stopped.
struct LookupResult {
  std::vector<Ref<Inode>> inodes;  // of names[0], names[1] ...
  Errno error = Errno::kOk;        // for names[inodes.size()]
  bool withheld = false;           // ENOENT because the profile hides the name: to be reported
  uint64_t as_of = 0;  // comes back with CachedEntry; what it says is the inode's affair
};

// What the name cache has of one directory.
struct CachedEntry {
  std::string_view name;
  Inode* child = nullptr;  // null: there is no such name
  uint64_t as_of = 0;      // of the lookup that said so; 0 also for what the guest did itself
};

enum class XattrCreate : uint8_t { kAny, kMustCreate, kMustReplace };  // setxattr(2)

// An object of a file system: a file, a directory, a device node. Names belong to Dentry, open
// files to FileDescription. Shared by Ref; whoever holds an inode also keeps its file system, by a
// Path or otherwise. Methods are called from any thread, without permission checks (operations.h
// has made them); implementations lock for themselves with ranks from kInode on. The caller holds
// Dentry::directory_mutex of a directory that changes or that a lookup begins in, not of the deeper
// ones of lookup_path (README.md). The defaults are what Linux answers where a type lacks a method.
class Inode : public RefCounted {
 public:
  FileType type() const { return type_; }
  bool is_directory() const { return type_ == FileType::kDirectory; }
  FileSystem& file_system() const { return file_system_; }

  virtual Result<Attributes> attributes() = 0;
  virtual Result<void> change(const AttributeChange& change);  // EPERM
  // The generic check against mode, owner and capabilities (access.h). proc overrides it.
  virtual Result<void> permission(const Credentials& who, AccessMask mask);

  // --- directories. Names are single components, at most 255 bytes, never "." or "..".
  virtual Result<Ref<Inode>> lookup(std::string_view name);  // ENOENT; not a directory: ENOTDIR
  // Walks several names at once, never through a symlink or a mount. The default calls lookup() on
  // each result in turn.
  virtual void lookup_path(std::span<const std::string_view> names, const LookupIntent& intent,
                           LookupResult& out);
  // Whether the cached entry may be used without asking again. When not, the walker calls
  // lookup_path, which returns the same Inode object for a file that is still the same.
  virtual bool entry_is_current(const CachedEntry& entry);
  virtual Result<Ref<Inode>> create(std::string_view name, const NewNode& node);
  struct Created;
  // A regular file. The default is create and open; the new file is opened whatever its mode says.
  // `request.path` has no dentry yet: it is set on the description afterwards.
  virtual Result<Created> create_and_open(std::string_view name, const NewNode& node,
                                          const OpenRequest& request);
  // A regular file without a name, for O_TMPFILE: EOPNOTSUPP.
  virtual Result<Ref<Inode>> create_unnamed(const NewNode& node);
  virtual Result<void> link(std::string_view name, Inode& target);
  virtual Result<void> unlink(std::string_view name, Inode& victim);
  virtual Result<void> rmdir(std::string_view name, Inode& victim);  // ENOTEMPTY
  // This directory's `old_name` becomes new_dir's `new_name`; `replaced` is what is there now, or
  // null. Types and permissions are checked. `flags`: RENAME_EXCHANGE, RENAME_WHITEOUT; NOREPLACE
  // has been dealt with. Called with the file system's rename lock held too.
  virtual Result<void> rename(std::string_view old_name, Inode& moved, Inode& new_dir,
                              std::string_view new_name, Inode* replaced, uint32_t flags);

  // --- symlinks
  virtual Result<std::string> read_link();  // EINVAL
  // Where to go on for the links of proc that are not text (/proc/PID/fd/N); null otherwise.
  virtual Result<std::unique_ptr<Path>> magic_link(Caller& caller);

  // --- open files. FIFOs, sockets and devices are opened by SpecialFiles instead where this
  // answers ENXIO, the default.
  virtual Result<Ref<FileDescription>> open(const OpenRequest& request);
  // What mappings of the file read; null when it cannot be mapped.
  virtual Ref<mm::PageSource> page_source();

  // --- extended attributes (xattr(7)); EOPNOTSUPP
  virtual Result<std::string> get_xattr(std::string_view name);  // ENODATA
  virtual Result<void> set_xattr(std::string_view name, std::string_view value, XattrCreate how);
  virtual Result<void> remove_xattr(std::string_view name);
  virtual Result<std::vector<std::string>> list_xattr();

  // --- state that the Sentry keeps for every kind of file
  // Being written to and being executed exclude each other (include/linux/fs.h: i_writecount).
  // ETXTBSY; what was got is put back once. FileDescription::claim does both for open files.
  Result<void> get_write_access();
  void put_write_access() { write_count_.fetch_sub(1, std::memory_order_release); }
  Result<void> deny_write_access();
  void allow_write_access() { write_count_.fetch_add(1, std::memory_order_release); }
  // Advisory locks; made on first use.
  FileLocks& locks() EXCLUDES(state_mutex_);
  // Null when nobody ever locked this file: lets close skip the search.
  FileLocks* existing_locks() EXCLUDES(state_mutex_);
  // What else lives at this inode: the pipe behind a FIFO, the endpoint of a bound socket.
  Ref<RefCounted> attachment() EXCLUDES(state_mutex_);
  // Returns what is attached afterwards: `object`, or what was there before.
  Ref<RefCounted> attach_if_none(Ref<RefCounted> object) EXCLUDES(state_mutex_);
  void detach(const RefCounted& object) EXCLUDES(state_mutex_);

 protected:
  Inode(FileSystem& file_system, FileType type);
  ~Inode() override;

 private:
  FileSystem& file_system_;
  const FileType type_;
  std::atomic<int> write_count_{0};  // writers; below zero: how many deny writing
  Mutex state_mutex_{Rank::kFileLock};
  std::unique_ptr<FileLocks> locks_ GUARDED_BY(state_mutex_);
  Ref<RefCounted> attachment_ GUARDED_BY(state_mutex_);
};

struct Inode::Created {
  Ref<Inode> inode;
  Ref<FileDescription> file;
};

}  // namespace boxrun::vfs
