// Files of the host, through the Gofer. One P9Fs per declared mount; all share one connection.
#pragma once
#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gofer/client.h"
#include "sentry/fs/host_changes.h"
#include "sentry/fs/p9_connection.h"
#include "sentry/fs/p9_file.h"
#include "sentry/vfs/file_system.h"
#include "sentry/vfs/inode.h"

namespace boxrun::fs {

class P9Fs;
class P9Inode;

// What is known about the host while the guest runs.
enum class P9Cache : uint8_t {
  kExclusive,  // nobody else changes the files: what was seen once stays true
  // The user edits them meanwhile: names are asked for again by every path walk, except where the
  // Gofer watches the directory and nothing has changed.
  kShared,
};

// When attributes were asked for, in two reckonings.
struct Seen {
  HostChanges::Stamp as_of = HostChanges::kNever;  // kNever: no bell tells of their changes
  uint64_t asked = UINT64_MAX;                     // P9Fs::changes_made() before the question
};

class P9Fs final : public vfs::FileSystem {
 public:
  struct Config {
    uint64_t device = 0;
    std::string mount;  // as the Gofer calls it
    P9Cache cache = P9Cache::kExclusive;
    bool read_only = false;
    // Shown as root's: the host's owners without a number in the Gofer's user namespace.
    std::optional<uid_t> unmapped_uid;
    std::optional<gid_t> unmapped_gid;
  };
  // EIO when the Gofer is gone, ENOENT when it has no such mount.
  static Result<Ref<P9Fs>> create(const Config& config, Ref<P9Connection> connection);

  Ref<vfs::Inode> root() override;
  Result<vfs::Statistics> statistics() override;

  bool exclusive() const { return cache_ == P9Cache::kExclusive; }
  // Nobody at all changes the files: directories may be kept whole, with attributes.
  bool immutable() const { return exclusive() && properties().read_only; }
  gofer::Client& client() { return connection_->client(); }
  // Of a shared mount; null where changes cannot be watched.
  HostChanges* changes() const { return changes_; }
  // Counts what the guest itself changed, so that answers to older questions are known as such.
  uint64_t changes_made() const { return changes_made_.load(); }
  uint64_t change_made() { return changes_made_.fetch_add(1) + 1; }

 private:
  friend class P9Inode;
  P9Fs(const Config& config, Ref<P9Connection> connection);
  void last_reference_gone() override;

  // The inode of a file, the one that is known already if it still is. `target`: of a symlink.
  Ref<P9Inode> inode_of(const gofer::Attr& attr, std::string target, Seen seen = {})
      EXCLUDES(mutex_);
  void forget(P9Inode& inode) EXCLUDES(mutex_);

  const Ref<P9Connection> connection_;
  const P9Cache cache_;
  HostChanges* const changes_;
  std::atomic<uint64_t> changes_made_{0};
  const std::optional<uid_t> unmapped_uid_;
  const std::optional<gid_t> unmapped_gid_;
  Ref<P9Inode> root_;  // fixed after construction

  Mutex mutex_{Rank::kP9};
  std::unordered_map<uint64_t, P9Inode*> inodes_ GUARDED_BY(mutex_);  // by qid.path
};

// A directory as it was read, whole, in the host's order. Immutable.
class P9Listing final : public RefCounted {
 public:
  P9Listing(std::vector<gofer::DirectoryEntry> entries, gofer::Listed what);
  // Whether attributes were asked for; some entries may have none all the same.
  bool has_attributes() const { return what_ == gofer::Listed::kAttributes; }
  const std::vector<gofer::DirectoryEntry>& entries() const { return entries_; }
  const gofer::DirectoryEntry* find(std::string_view name) const;

 private:
  const std::vector<gofer::DirectoryEntry> entries_;
  const gofer::Listed what_;
  std::unordered_map<std::string_view, size_t> by_name_;
};

class P9Inode final : public vfs::Inode {
 public:
  ~P9Inode() override;

  Result<vfs::Attributes> attributes() override EXCLUDES(mutex_);
  // By what the last lookup said: the walker asks this of every directory of every path.
  Result<void> permission(const Credentials& who, vfs::AccessMask mask) override EXCLUDES(mutex_);
  Result<void> change(const vfs::AttributeChange& change) override EXCLUDES(mutex_);
  Result<Ref<vfs::Inode>> lookup(std::string_view name) override;
  void lookup_path(std::span<const std::string_view> names, const vfs::LookupIntent& intent,
                   vfs::LookupResult& out) override;
  bool entry_is_current(const vfs::CachedEntry& entry) override;
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::NewNode& node) override;
  Result<Created> create_and_open(std::string_view name, const vfs::NewNode& node,
                                  const vfs::OpenRequest& request) override;
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

  P9Fs& fs() { return fs_; }
  uint64_t number() const { return number_; }
  // --- for open files
  // The whole directory: what is known, or freshly read.
  Result<Ref<P9Listing>> listing() EXCLUDES(mutex_);
  // Size and times have changed.
  void written() { outdated(); }
  Ref<P9Pages> pages() EXCLUDES(mutex_);
  // An open file that may write was closed. A host program that is still open for writing cannot be
  // executed there (ETXTBSY), so the descriptor goes with the last of them.
  void writer_closed() EXCLUDES(mutex_);

 private:
  friend class P9Connection;
  friend class P9Fs;
  P9Inode(P9Fs& fs, const gofer::Attr& attr, std::string target, HostChanges::Stamp as_of);
  void last_reference_gone() override;

  // A chain of names from a directory that has a fid, to this one: files of a listing have none
  // until they are needed.
  struct Way {
    uint32_t start = gofer::kNoFid;
    std::vector<Ref<P9Inode>> inodes;  // of names
    std::vector<std::string> names;
  };
  Result<Way> way() EXCLUDES(mutex_);
  struct Walked : gofer::WalkReply {
    Seen seen;
  };
  // Walks the way and then `names`. The steps of the way are taken care of; the reply has the rest.
  Result<Walked> walk(std::span<const std::string_view> names, gofer::WalkExtras extras);
  // The same with what the walk asks of the Gofer; when this process may have no more descriptors,
  // once more after those that are only kept have gone.
  Result<gofer::WalkReply> walk_from(uint32_t start, std::span<const std::string_view> names,
                                     const gofer::WalkExtras& extras);
  Result<uint32_t> fid();
  // False when the number stands for another file now. `seen.as_of` when a watched directory tells
  // of changes of these attributes.
  bool learn(const gofer::Attr& attr, Seen seen = {}) EXCLUDES(mutex_);
  // Whether changes of names in this directory are told since then.
  bool watches(HostChanges::Stamp as_of) const {
    const HostChanges::Stamp since = watched_since_.load();
    return since != HostChanges::kNever && since <= as_of;
  }
  // Whether so many names were asked for that watching this directory is worth it.
  bool worth_watching() EXCLUDES(mutex_);
  void learn_watched(bool watched) EXCLUDES(mutex_);
  // As of when attr_ is known to be true unless the bell rang since; kNever: it may be outdated.
  HostChanges::Stamp trusted_locked() const REQUIRES(mutex_);
  bool fresh_locked() const REQUIRES(mutex_);
  static int64_t steady_now();  // ns
  static uint32_t host_access(int flags);
  void learn_fid(gofer::RemoteFid fid) EXCLUDES(mutex_);
  Ref<P9Inode> adopt(gofer::RemoteFile file, Seen seen = {});
  Ref<P9Inode> adopt_listed(const gofer::DirectoryEntry& entry);
  vfs::Attributes to_attributes(const gofer::Attr& attr) const;

  void look_up_remotely(std::span<const std::string_view> names, const vfs::LookupIntent& intent,
                        vfs::LookupResult& out);
  Ref<P9Listing> known_listing() EXCLUDES(mutex_);
  // What of the whole directory is worth a look, before another of its names is asked for.
  std::optional<gofer::Listed> worth_listing() EXCLUDES(mutex_);
  void count_missed_name() EXCLUDES(mutex_);
  void learn_listing(const gofer::DirectoryPage& page, gofer::Listed what) EXCLUDES(mutex_);
  void never_list(gofer::Listed what) EXCLUDES(mutex_);
  // The guest changed entries of this directory, or names of this file: times and link count.
  void outdated() EXCLUDES(mutex_);

  // The host file for this access, from a former open or fresh.
  Result<Ref<P9HostFile>> host_file(int flags) EXCLUDES(mutex_);
  Ref<P9HostFile> kept_file(int flags) EXCLUDES(mutex_);
  Ref<P9HostFile> keep_file(gofer::RemoteOpen opened, int access) EXCLUDES(mutex_);
  void give_up_file() EXCLUDES(mutex_);
  Result<Ref<P9Inode>> make(std::string_view name, const vfs::NewNode& node);

  P9Fs& fs_;
  const uint64_t number_;  // qid.path: the inode number

  Mutex mutex_{Rank::kInode};
  gofer::Attr attr_ GUARDED_BY(mutex_);
  int64_t learned_at_ GUARDED_BY(mutex_) = 0;  // when attr_ was true, by the host's steady clock
  uint64_t learned_in_ GUARDED_BY(mutex_);     // this_call()
  HostChanges::Stamp attr_as_of_ GUARDED_BY(mutex_);
  // Size, times or link count have changed since: the change's number; 0: nothing has.
  uint64_t stale_since_ GUARDED_BY(mutex_) = 0;
  std::string target_ GUARDED_BY(mutex_);
  gofer::RemoteFid fid_ GUARDED_BY(mutex_);
  Ref<P9Inode> via_ GUARDED_BY(mutex_);  // without a fid: the directory, and the name in it
  std::string via_name_ GUARDED_BY(mutex_);
  Ref<P9HostFile> reader_ GUARDED_BY(mutex_);
  Ref<P9HostFile> writer_ GUARDED_BY(mutex_);
  uint32_t writers_ GUARDED_BY(mutex_) = 0;  // open files that may write
  Ref<P9Pages> pages_ GUARDED_BY(mutex_);
  Ref<P9Listing> listing_ GUARDED_BY(mutex_);
  uint32_t names_asked_ GUARDED_BY(mutex_) = 0;  // of this directory, while it is not watched
  uint32_t names_missed_ GUARDED_BY(mutex_) = 0;
  size_t bare_names_asked_ GUARDED_BY(mutex_) = 0;  // that are in listing_, without attributes
  bool too_large_ GUARDED_BY(mutex_) = false;       // for a listing; or it may not be read
  bool too_large_for_attributes_ GUARDED_BY(mutex_) = false;
  bool unwatchable_ GUARDED_BY(mutex_) = false;
  std::atomic<HostChanges::Stamp> watched_since_{HostChanges::kNever};

  bool keeping_ = false;  // the connection's list holds this, at position_; its lock
  std::list<P9Inode*>::iterator position_;
};

}  // namespace boxrun::fs
