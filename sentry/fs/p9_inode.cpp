// What a file on a 9P mount is, and finding others from it.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "sentry/fs/p9_fs.h"
#include "sentry/time/call.h"
#include "sentry/vfs/access.h"

namespace boxrun::fs {
namespace {

// On shared mounts attributes that came with a lookup serve what follows in the same system call,
// for so long.
constexpr int64_t kFresh = 20'000'000;  // ns
// How long those of files in watched directories serve without having been looked at: some
// changes ring no bell (writes through a mapping or through another hard link, reads).
constexpr int64_t kTrusted = 1'000'000'000;  // ns

// Watching a directory is worth it after so many of its names were asked for, listing it after so
// many that were not there.
constexpr uint32_t kManyNamesAsked = 3;
constexpr uint32_t kManyMissed = 2;
// The names alone cost next to nothing and answer every miss. Attributes cost the Gofer nearly as
// much for each file as a lookup costs: worth it once so many of the files, or one in so many, were
// asked for.
constexpr size_t kManyFilesAsked = 8;
constexpr size_t kOneIn = 4;
constexpr size_t kMaxListed = 4096;               // entries of a directory that is kept whole
constexpr size_t kMaxListedWithAttributes = 300;  // they must fit one reply
constexpr size_t kMaxRead = 1'000'000;            // of one that is only read

Nanos to_nanos(gofer::Time t) {
  return static_cast<Nanos>(t.sec) * kSecond + static_cast<Nanos>(t.nsec);
}
gofer::Time to_time(const timespec& t) {
  return {static_cast<uint64_t>(t.tv_sec), static_cast<uint64_t>(t.tv_nsec)};
}

void merge(gofer::Attr& attr, const struct stat& st) {
  attr.mode = st.st_mode;
  attr.uid = st.st_uid;
  attr.gid = st.st_gid;
  attr.nlink = st.st_nlink;
  attr.size = static_cast<uint64_t>(st.st_size);
  attr.blocks = static_cast<uint64_t>(st.st_blocks);
  attr.atime = to_time(st.st_atim);
  attr.mtime = to_time(st.st_mtim);
  attr.ctime = to_time(st.st_ctim);
}

}  // namespace

int64_t P9Inode::steady_now() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

P9Inode::P9Inode(P9Fs& fs, const gofer::Attr& attr, std::string target, HostChanges::Stamp as_of)
    : Inode(fs, vfs::file_type_of(attr.mode)),
      fs_(fs),
      number_(attr.qid.path),
      attr_(attr),
      learned_at_(steady_now()),
      learned_in_(this_call()),
      attr_as_of_(as_of),
      target_(std::move(target)) {}

P9Inode::~P9Inode() {
  fs_.connection_->keeps_no_more(*this);
  fs_.forget(*this);
}

// A loop, not a recursion: files of listings keep their directory alive, as deep as there are any.
void P9Inode::last_reference_gone() {
  P9Inode* gone = this;
  while (gone != nullptr) {
    P9Inode* up = nullptr;
    {
      const Lock lock(gone->mutex_);
      up = gone->via_.release();
    }
    delete gone;
    gone = up != nullptr && up->drop_ref() ? up : nullptr;
  }
}

vfs::Attributes P9Inode::to_attributes(const gofer::Attr& attr) const {
  vfs::Attributes result;
  result.dev = fs_.device();
  result.ino = number_;
  result.type = type();
  result.mode = attr.mode & vfs::kPermissionBits;
  result.nlink = static_cast<uint32_t>(attr.nlink);
  result.uid = attr.uid == fs_.unmapped_uid_ ? 0 : attr.uid;
  result.gid = attr.gid == fs_.unmapped_gid_ ? 0 : attr.gid;
  result.rdev = attr.rdev;
  result.size = attr.size;
  result.blocks = attr.blocks;
  result.block_size = static_cast<uint32_t>(attr.blksize);
  result.atime = to_nanos(attr.atime);
  result.mtime = to_nanos(attr.mtime);
  result.ctime = to_nanos(attr.ctime);
  if ((attr.valid & gofer::kAttrBtime) != 0) result.btime = to_nanos(attr.btime);
  return result;
}

Result<vfs::Attributes> P9Inode::attributes() {
  Ref<P9HostFile> file;
  const uint64_t asked = fs_.changes_made();
  {
    const Lock lock(mutex_);
    if (fs_.exclusive() && stale_since_ == 0) return to_attributes(attr_);
    file = writer_ ? writer_ : reader_;
    if (!file && stale_since_ == 0 && fresh_locked()) return to_attributes(attr_);
    const HostChanges::Stamp trusted = trusted_locked();
    if (!file && trusted != HostChanges::kNever && fs_.changes()->nothing_since(trusted)) {
      return to_attributes(attr_);
    }
  }
  if (file && file->fd() >= 0) {
    const struct stat st = TRY(file->stat());
    const Lock lock(mutex_);
    merge(attr_, st);
    if (stale_since_ <= asked) stale_since_ = 0;
    learned_at_ = steady_now();
    learned_in_ = this_call();
    return to_attributes(attr_);
  }
  const Walked reply = TRY(walk({}, {.stat_start = true}));
  if (reply.failure.error != Errno::kOk) return reply.failure.error;
  const Lock lock(mutex_);
  return to_attributes(attr_);
}

Result<void> P9Inode::permission(const Credentials& who, vfs::AccessMask mask) {
  vfs::Attributes now;
  {
    const Lock lock(mutex_);
    now = to_attributes(attr_);
  }
  return vfs::check_access(now, who, mask);
}

Result<P9Inode::Way> P9Inode::way() {
  Way way;
  Ref<P9Inode> at(this);
  for (;;) {
    Ref<P9Inode> next;
    {
      const Lock lock(at->mutex_);
      if (at->fid_) {
        way.start = at->fid_.number();
        break;
      }
      if (!at->via_) return Errno::kStale;
      way.names.push_back(at->via_name_);
      next = at->via_;
    }
    way.inodes.push_back(std::exchange(at, std::move(next)));
  }
  std::ranges::reverse(way.names);
  std::ranges::reverse(way.inodes);
  return way;
}

Result<P9Inode::Walked> P9Inode::walk(std::span<const std::string_view> names,
                                      gofer::WalkExtras extras) {
  const Way way = TRY(this->way());
  const HostChanges::Collection collection(fs_.changes());
  const uint64_t asked = fs_.changes_made();
  extras.collect = collection.wanted();
  extras.watch_start = worth_watching();
  std::vector<std::string_view> all(way.names.begin(), way.names.end());
  all.insert(all.end(), names.begin(), names.end());
  const size_t prefix = way.names.size();
  if (extras.list_after) *extras.list_after += prefix;
  Walked reply{TRY(walk_from(way.start, all, extras)), {collection.stamp(), asked}};
  // Names that were in a listing once lead to nothing, or elsewhere.
  if (reply.steps.size() < prefix) return Errno::kStale;
  for (size_t i = 0; i < prefix; i++) {
    P9Inode& inode = *way.inodes[i];
    if (reply.steps[i].attr.qid.path != inode.number_) return Errno::kStale;
    if (!inode.learn(reply.steps[i].attr, {HostChanges::kNever, asked})) return Errno::kStale;
    inode.learn_fid(std::move(reply.steps[i].fid));
  }
  reply.steps.erase(reply.steps.begin(), reply.steps.begin() + static_cast<ptrdiff_t>(prefix));
  if (extras.watch_start) learn_watched(reply.watched);
  if (prefix == 0 && reply.start) {
    const Seen seen{is_directory() ? reply.seen.as_of : HostChanges::kNever, asked};
    if (!learn(*reply.start, seen)) return Errno::kStale;
  }
  if (reply.listing) learn_listing(*reply.listing, extras.listed);
  return reply;
}

Result<gofer::WalkReply> P9Inode::walk_from(uint32_t start, std::span<const std::string_view> names,
                                            const gofer::WalkExtras& extras) {
  Result<gofer::WalkReply> reply = fs_.client().walk(start, names, extras);
  if (reply.error() == Errno::kNFile && fs_.connection_->keep_none()) {
    reply = fs_.client().walk(start, names, extras);
  }
  return reply;
}

Result<uint32_t> P9Inode::fid() {
  {
    const Lock lock(mutex_);
    if (fid_) return fid_.number();
  }
  TRY(walk({}, {}));
  const Lock lock(mutex_);
  return fid_.number();
}

void P9Inode::learn_fid(gofer::RemoteFid fid) {
  Ref<P9Inode> via;  // dropped after the lock
  const Lock lock(mutex_);
  if (!fid_) fid_ = std::move(fid);
  via = std::move(via_);
}

Ref<P9Inode> P9Inode::adopt(gofer::RemoteFile file, Seen seen) {
  Ref<P9Inode> inode = fs_.inode_of(file.attr, std::move(file.target), seen);
  inode->learn_fid(std::move(file.fid));
  return inode;
}

Ref<P9Inode> P9Inode::adopt_listed(const gofer::DirectoryEntry& entry) {
  Ref<P9Inode> inode = fs_.inode_of(*entry.attr, entry.target);
  Ref<P9Inode> before;  // dropped after the lock
  const Lock lock(inode->mutex_);
  if (inode->fid_ || inode.get() == this) return inode;
  before = std::exchange(inode->via_, Ref<P9Inode>(this));
  inode->via_name_ = entry.name;
  return inode;
}

// --- lookups

Result<Ref<vfs::Inode>> P9Inode::lookup(std::string_view name) {
  vfs::LookupResult found;
  lookup_path({&name, 1}, {}, found);
  if (found.inodes.empty()) return found.error;
  return std::move(found.inodes[0]);
}

bool P9Inode::entry_is_current(const vfs::CachedEntry& entry) {
  if (fs_.exclusive()) return true;
  if (!watches(entry.as_of)) return false;
  HostChanges::Stamp since = entry.as_of;
  if (entry.child != nullptr) {
    auto& child = static_cast<P9Inode&>(*entry.child);
    const Lock lock(child.mutex_);
    const HostChanges::Stamp trusted = child.trusted_locked();
    if (trusted != HostChanges::kNever) {
      since = std::min(since, trusted);
    } else if (child.is_directory()) {
      // Only its own watch knows its times, but it is that directory. No lookup refreshes it now.
      child.learned_at_ = 0;
    } else {
      return false;
    }
  }
  return fs_.changes()->nothing_since(since);
}

bool P9Inode::fresh_locked() const {
  return learned_in_ == this_call() && steady_now() - learned_at_ < kFresh;
}

HostChanges::Stamp P9Inode::trusted_locked() const {
  const bool told = is_directory() ? watches(attr_as_of_) : attr_.nlink == 1;
  if (!told || stale_since_ != 0 || steady_now() - learned_at_ >= kTrusted)
    return HostChanges::kNever;
  return attr_as_of_;
}

bool P9Inode::worth_watching() {
  if (fs_.changes() == nullptr || !is_directory()) return false;
  const Lock lock(mutex_);
  names_asked_++;
  return names_asked_ >= kManyNamesAsked && !unwatchable_ && watched_since_ == HostChanges::kNever;
}

void P9Inode::learn_watched(bool watched) {
  if (watched) {
    watched_since_ = fs_.changes()->watched_from_now();
    return;
  }
  const Lock lock(mutex_);
  unwatchable_ = true;
}

void P9Inode::lookup_path(std::span<const std::string_view> names, const vfs::LookupIntent& intent,
                          vfs::LookupResult& out) {
  Ref<P9Inode> at(this);
  while (!names.empty()) {
    if (!at->is_directory()) {
      out.error = Errno::kNotDir;
      return;
    }
    const Ref<P9Listing> known = at->known_listing();
    if (!known) break;
    const gofer::DirectoryEntry* entry = known->find(names.front());
    if (entry == nullptr || entry->hidden) {
      out.error = Errno::kNoEnt;
      out.withheld = entry != nullptr;
      return;
    }
    if (!entry->attr) break;
    at = at->adopt_listed(*entry);
    out.inodes.emplace_back(at);
    names = names.subspan(1);
  }
  if (!names.empty()) at->look_up_remotely(names, intent, out);
}

void P9Inode::look_up_remotely(std::span<const std::string_view> names,
                               const vfs::LookupIntent& intent, vfs::LookupResult& out) {
  gofer::WalkExtras extras;
  extras.stat_start = !fs_.exclusive();
  if (fs_.immutable()) {
    if (const auto worth = worth_listing()) {
      extras.list_after = 0;
      extras.listed = *worth;
    }
  }
  if (intent.open_flags && (*intent.open_flags & (O_DIRECTORY | O_PATH)) == 0) {
    extras.open_flags = host_access(*intent.open_flags);
  }
  Result<Walked> reply = walk(names, extras);
  if (reply.ok() && extras.list_after && !reply->listing && reply->steps.empty()) {
    // The directory may be searched but not read.
    never_list(extras.listed);
    extras.list_after.reset();
    reply = walk(names, extras);
  }
  if (!reply.ok()) {
    out.error = reply.error();
    return;
  }
  const bool complete = reply->steps.size() == names.size();
  out.as_of = reply->seen.as_of;
  Ref<P9Inode> at(this);
  for (gofer::RemoteFile& step : reply->steps) {
    // Changes of a directory's own attributes are told by its own watch.
    const bool told = S_ISDIR(step.attr.mode) || at->watches(reply->seen.as_of);
    at =
        adopt(std::move(step), {told ? reply->seen.as_of : HostChanges::kNever, reply->seen.asked});
    out.inodes.emplace_back(at);
  }
  if (!complete) {
    if (reply->failure.error == Errno::kNoEnt && at->is_directory()) at->count_missed_name();
    out.error = reply->failure.error;
    out.withheld = reply->failure.rule == gofer::Rule::kHidden;
  } else if (reply->opened.file) {
    at->keep_file(std::move(reply->opened), static_cast<int>(*extras.open_flags));
  }
}

// --- listings

Ref<P9Listing> P9Inode::known_listing() {
  const Lock lock(mutex_);
  return listing_;
}

void P9Inode::count_missed_name() {
  const Lock lock(mutex_);
  names_missed_++;
}

std::optional<gofer::Listed> P9Inode::worth_listing() {
  const Lock lock(mutex_);
  if (!listing_) {
    if (names_missed_ < kManyMissed || too_large_) return std::nullopt;
    return gofer::Listed::kNames;
  }
  if (listing_->has_attributes() || too_large_for_attributes_ ||
      listing_->entries().size() > kMaxListedWithAttributes) {
    return std::nullopt;
  }
  bare_names_asked_++;
  if (bare_names_asked_ < std::max(kManyFilesAsked, listing_->entries().size() / kOneIn))
    return std::nullopt;
  return gofer::Listed::kAttributes;
}

void P9Inode::never_list(gofer::Listed what) {
  const Lock lock(mutex_);
  bool& never = what == gofer::Listed::kNames ? too_large_ : too_large_for_attributes_;
  never = true;
}

void P9Inode::learn_listing(const gofer::DirectoryPage& page, gofer::Listed what) {
  if (!fs_.immutable()) return;
  const bool whole = page.end && page.entries.size() <= kMaxListed;
  // What it replaces is let go of without the lock.
  Ref<P9Listing> listing = whole ? make_ref<P9Listing>(page.entries, what) : nullptr;
  const Lock lock(mutex_);
  if (!whole) {
    bool& too_large = what == gofer::Listed::kNames ? too_large_ : too_large_for_attributes_;
    too_large = true;
  } else if (!listing_ || (listing->has_attributes() && !listing_->has_attributes())) {
    std::swap(listing_, listing);
  }
}

Result<Ref<P9Listing>> P9Inode::listing() {
  if (Ref<P9Listing> known = known_listing()) return known;
  gofer::DirectoryPage all;
  Walked first = TRY(walk({}, {.list_after = 0}));
  if (first.listing && first.listing->end) {
    all = std::move(*first.listing);
  } else {
    if (first.failure.error != Errno::kOk) return first.failure.error;
    gofer::Client::OpenedDirectory opened =
        TRY(fs_.client().list(TRY(fid()), gofer::Listed::kNames));
    all = std::move(opened.page);
    while (!all.end && !all.entries.empty()) {
      if (all.entries.size() > kMaxRead) return Errno::kNoMem;
      const uint64_t next = all.entries.back().offset;
      gofer::DirectoryPage page =
          TRY(fs_.client().read_directory(opened.fid.number(), next, gofer::Listed::kNames));
      all.end = page.end || page.entries.empty();
      std::ranges::move(page.entries, std::back_inserter(all.entries));
    }
    all.end = true;
    learn_listing(all, gofer::Listed::kNames);
  }
  if (Ref<P9Listing> known = known_listing()) return known;
  return make_ref<P9Listing>(std::move(all.entries), gofer::Listed::kNames);
}

void P9Inode::outdated() {
  const Lock lock(mutex_);
  stale_since_ = fs_.change_made();
}

}  // namespace boxrun::fs
