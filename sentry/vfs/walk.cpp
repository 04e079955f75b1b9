#include "sentry/vfs/walk.h"

#include <linux/openat2.h>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

namespace boxrun::vfs {
namespace {

// As many names as one lookup_path is asked for: deeper paths take another round trip.
constexpr size_t kMaxBatch = 32;

// What one batch found, in order below the directory it started from.
using Chain = std::deque<Ref<Dentry>>;

bool current(Inode& directory, std::string_view name, const Dentry& child) {
  if (child.is_mountpoint()) return true;
  const Ref<Inode> inode = child.inode();
  return directory.entry_is_current({name, inode.get(), child.as_of()});
}

// Looks up names[0] in `directory`, whose mutex is held, and the names below it on the way.
Result<Chain> look_up_locked(Dentry& directory, std::span<const std::string_view> names,
                             const LookupIntent& intent) {
  DentryCache& cache = directory.cache();
  const Ref<Inode> inode = directory.inode();
  if (!inode) return Errno::kNoEnt;
  if (Ref<Dentry> found = cache.find(directory, names[0])) {
    if (current(*inode, names[0], *found)) return Chain{std::move(found)};
  }
  LookupResult result;
  inode->lookup_path(names, intent, result);
  // Without cached names a missing one is an error even for those who would make it: mkdir in proc
  // is ENOENT (fs/namei.c: filename_create).
  const bool missing = result.error == Errno::kNoEnt && result.inodes.size() < names.size() &&
                       inode->file_system().properties().caches_names;
  if (result.inodes.empty() && !missing) {
    return result.error == Errno::kOk ? Errno::kIo : result.error;
  }
  Chain chain;
  Dentry* parent = &directory;
  const size_t count = std::min(result.inodes.size() + (missing ? 1 : 0), names.size());
  for (size_t i = 0; i < count; i++) {
    const bool positive = i < result.inodes.size();
    const auto other = i == 0 ? DentryCache::Other::kReplace : DentryCache::Other::kKeep;
    Ref<Dentry> made = cache.insert(*parent, names[i], positive ? result.inodes[i] : nullptr,
                                    !positive && result.withheld, other, result.as_of);
    if (!made) break;
    parent = made.get();
    chain.push_back(std::move(made));
  }
  return chain;
}

// One walk. `rest_` is what is still to be walked; a symlink puts its target in front of it.
class Walker {
 public:
  Walker(Caller& caller, const WalkOptions& options) : caller_(caller), options_(options) {}

  Result<void> start(const Path& start, std::string_view path);
  // To the end, or with `last` to the last name, which is left in *last.
  Result<void> run(LastName* last);
  Path take() { return std::move(at_); }

 private:
  bool resolve(uint64_t flag) const { return (options_.resolve & flag) != 0; }
  Result<void> to_root();
  Result<void> up();
  Result<void> down(std::string_view name, bool is_last);
  void report_missing(const Dentry& negative) const;
  Result<Ref<Dentry>> child(std::string_view name);
  struct Batch {
    std::vector<std::string_view> names;
    bool to_the_end = false;
  };
  Batch batch(std::string_view first) const;
  Result<void> follow(Inode& link);
  Result<void> enter(Path next);
  Result<bool> stops_at(std::string_view name, LastName& last);
  Result<void> check_search();

  Caller& caller_;
  const WalkOptions& options_;
  Path root_;
  Path at_;
  std::string rest_;
  size_t position_ = 0;  // in rest_: just behind the name that is being walked
  int links_ = 0;
  bool to_last_ = false;  // a name is to be made or removed in the end
  Chain fresh_;           // what the last batch found below fresh_parent_
  Ref<Dentry> fresh_parent_;
};

Result<void> Walker::start(const Path& start, std::string_view path) {
  if (path.size() >= kMaxPath) return Errno::kNameTooLong;
  rest_ = path;
  const bool scoped = resolve(RESOLVE_BENEATH | RESOLVE_IN_ROOT);
  root_ = scoped ? start : caller_.fs.root();
  at_ = start;
  if (!path.empty() && path.front() == '/') return to_root();
  return {};
}

Result<void> Walker::to_root() {
  // openat2(2): an absolute path, or a symlink to one, leaves the start.
  if (resolve(RESOLVE_BENEATH)) return Errno::kXDev;
  if (resolve(RESOLVE_NO_XDEV) && at_.mount != root_.mount) return Errno::kXDev;
  at_ = root_;
  return {};
}

Result<void> Walker::check_search() {
  const Ref<Inode> inode = at_.dentry->inode();
  if (!inode) return Errno::kNoEnt;
  if (!inode->is_directory()) return Errno::kNotDir;
  return inode->permission(*caller_.credentials, kMayExec);
}

Result<void> Walker::run(LastName* last) {
  to_last_ = last != nullptr;
  for (;;) {
    const size_t begin = rest_.find_first_not_of('/', position_);
    if (begin == std::string::npos) break;
    const size_t end = std::min(rest_.find('/', begin), rest_.size());
    const std::string name = rest_.substr(begin, end - begin);
    position_ = end;
    TRY(check_search());
    if (name.size() > kMaxName) return Errno::kNameTooLong;
    const bool is_last = rest_.find_first_not_of('/', end) == std::string::npos;
    if (is_last && last != nullptr && TRY(stops_at(name, *last))) return {};
    if (name == ".") continue;
    if (name == "..") {
      TRY(up());
    } else {
      TRY(down(name, is_last));
    }
  }
  if (last != nullptr) {
    // Nothing but slashes, or a magic link in the end.
    last->kind = LastName::Kind::kRoot;
    last->directory = at_;
    return {};
  }
  const bool slash = !rest_.empty() && rest_.back() == '/';
  if (slash || options_.must_be_directory) {
    if (!at_.dentry->inode()->is_directory()) return Errno::kNotDir;
  }
  return {};
}

// Whether the walk to the last name ends here, before it.
Result<bool> Walker::stops_at(std::string_view name, LastName& last) {
  last.directory = at_;
  last.name = name;
  last.trailing_slash = position_ < rest_.size();
  last.kind = name == "."    ? LastName::Kind::kDot
              : name == ".." ? LastName::Kind::kDotDot
                             : LastName::Kind::kNormal;
  if (options_.follow == Follow::kNo || last.kind != LastName::Kind::kNormal) return true;
  const Ref<Dentry> dentry = TRY(child(name));
  const Ref<Inode> inode = dentry->inode();
  return !inode || inode->type() != FileType::kSymlink;
}

Result<void> Walker::up() {
  for (;;) {
    if (at_ == root_) {
      if (resolve(RESOLVE_BENEATH)) return Errno::kXDev;
      break;
    }
    if (at_.dentry != at_.mount->root()) {
      Ref<Dentry> parent = at_.dentry->parent();
      if (parent) at_.dentry = std::move(parent);
      break;
    }
    Path below = caller_.mounts.mountpoint(*at_.mount);
    if (!below) break;
    if (resolve(RESOLVE_NO_XDEV)) return Errno::kXDev;
    at_ = std::move(below);
  }
  return enter(at_);
}

// Goes to `next` and to whatever is mounted there.
Result<void> Walker::enter(Path next) {
  Path entered = caller_.mounts.cross(std::move(next));
  if (resolve(RESOLVE_NO_XDEV) && entered.mount != at_.mount) return Errno::kXDev;
  at_ = std::move(entered);
  return {};
}

Result<void> Walker::down(std::string_view name, bool is_last) {
  Ref<Dentry> dentry = TRY(child(name));
  const Ref<Inode> inode = dentry->inode();
  if (!inode) {
    report_missing(*dentry);
    return Errno::kNoEnt;
  }
  const bool slash = position_ < rest_.size();
  if (inode->type() == FileType::kSymlink &&
      (!is_last || slash || options_.follow == Follow::kYes)) {
    return follow(*inode);
  }
  return enter({at_.mount, std::move(dentry)});
}

// Reports a name that the profile withholds, when `negative` is one.
void Walker::report_missing(const Dentry& negative) const {
  if (caller_.denials == nullptr) return;
  const bool hidden = negative.withheld();
  if (!hidden && !at_.mount->has(MountFlags::kReportMissing)) return;
  const std::string missing = path_in(caller_, at_, negative.name());
  if (hidden) return caller_.denials->denied({Denial::Kind::kHidden, missing, Errno::kNoEnt});
  Denial denial{Denial::Kind::kNotGranted, missing, Errno::kNoEnt};
  // Who wants to make or remove a file further down is told of that file.
  const std::string whole =
      missing + rest_.substr(position_, rest_.find_last_not_of('/') + 1 - position_);
  if (to_last_) {
    denial.target = whole;
    denial.directory = missing;
  }
  caller_.denials->denied(denial);
}

Result<void> Walker::follow(Inode& link) {
  if (resolve(RESOLVE_NO_SYMLINKS) || ++links_ > kMaxSymlinks) return Errno::kLoop;
  if (const std::unique_ptr<Path> target = TRY(link.magic_link(caller_))) {
    if (resolve(RESOLVE_NO_MAGICLINKS)) return Errno::kLoop;
    if (resolve(RESOLVE_BENEATH | RESOLVE_IN_ROOT)) return Errno::kXDev;
    if (resolve(RESOLVE_NO_XDEV) && target->mount != at_.mount) return Errno::kXDev;
    at_ = std::move(*target);
    return {};
  }
  std::string target = TRY(link.read_link());
  if (target.empty()) return Errno::kNoEnt;
  if (target.size() >= kMaxPath) return Errno::kNameTooLong;
  const bool absolute = target.front() == '/';
  rest_ = std::move(target) + rest_.substr(position_);
  position_ = 0;
  return absolute ? to_root() : Result<void>();
}

// The names that one round trip may look up: `first` and those after it, as long as they are
// ordinary and the cache knows no mount on the way.
Walker::Batch Walker::batch(std::string_view first) const {
  Batch result{{first}};
  std::vector<std::string_view>& names = result.names;
  DentryCache& cache = at_.dentry->cache();
  Ref<Dentry> cached = cache.find(*at_.dentry, first);
  size_t position = position_;
  const std::string_view rest = rest_;
  while (names.size() < kMaxBatch) {
    const size_t begin = rest.find_first_not_of('/', position);
    if (begin == std::string_view::npos) {
      result.to_the_end = true;
      break;
    }
    position = std::min(rest.find('/', begin), rest.size());
    const std::string_view name = rest.substr(begin, position - begin);
    if (name == "." || name == ".." || name.size() > kMaxName) break;
    if (cached) cached = cache.find(*cached, name);
    if (cached && cached->is_mountpoint()) break;
    names.push_back(name);
  }
  return result;
}

Result<Ref<Dentry>> Walker::child(std::string_view name) {
  if (!fresh_.empty() && fresh_parent_ == at_.dentry && fresh_.front()->name() == name) {
    Ref<Dentry> next = std::move(fresh_.front());
    fresh_.pop_front();
    fresh_parent_ = next;
    return next;
  }
  fresh_.clear();
  Dentry& directory = *at_.dentry;
  const Ref<Inode> inode = directory.inode();
  if (!inode) return Errno::kNoEnt;
  if (Ref<Dentry> found = directory.cache().find(directory, name)) {
    if (current(*inode, name, *found)) return found;
  }
  const Batch wanted = batch(name);
  LookupIntent intent;
  if (wanted.to_the_end) intent.open_flags = options_.open_flags;
  Lock lock(directory.directory_mutex());
  Chain chain = TRY(look_up_locked(directory, wanted.names, intent));
  Ref<Dentry> first = std::move(chain.front());
  chain.pop_front();
  fresh_ = std::move(chain);
  fresh_parent_ = first;
  return first;
}

}  // namespace

Result<Path> walk(Caller& caller, const Path& start, std::string_view path,
                  const WalkOptions& options) {
  if (path.empty()) {
    if (options.allow_empty) return start;
    return Errno::kNoEnt;
  }
  Walker walker(caller, options);
  TRY(walker.start(start, path));
  TRY(walker.run(nullptr));
  return walker.take();
}

Result<LastName> walk_to_last(Caller& caller, const Path& start, std::string_view path,
                              const WalkOptions& options) {
  if (path.empty()) return Errno::kNoEnt;
  Walker walker(caller, options);
  TRY(walker.start(start, path));
  LastName last;
  TRY(walker.run(&last));
  return last;
}

Result<Ref<Dentry>> lookup_locked(const Path& directory, std::string_view name) {
  if (name.size() > kMaxName) return Errno::kNameTooLong;
  Chain chain = TRY(look_up_locked(*directory.dentry, std::span(&name, 1), {}));
  return std::move(chain.front());
}

std::string path_in(const Caller& caller, const Path& directory, std::string_view name) {
  std::string path = path_of(caller.mounts, caller.fs.root(), directory);
  if (path != "/") path += '/';
  return path.append(name);
}

Result<void> require_writable(Caller& caller, const LastName& last) {
  if (!last.directory.mount->read_only()) return {};
  if (caller.denials != nullptr) {
    const std::string directory = path_of(caller.mounts, caller.fs.root(), last.directory);
    const std::string path = path_in(caller, last.directory, last.name);
    caller.denials->denied({Denial::Kind::kReadOnly, path, Errno::kRoFs, directory});
  }
  return Errno::kRoFs;
}

std::string path_of(const MountNamespace& mounts, const Path& root, const Path& path,
                    bool* reachable) {
  if (reachable != nullptr) *reachable = true;
  const bool in_tree = path.dentry == path.mount->root() || path.dentry->parent();
  if (!in_tree) return path.dentry->name();
  std::string result;
  Path at = path;
  for (;;) {
    bool reached = false;
    const DentryCache& cache = at.dentry->cache();
    if (at.mount == root.mount) {
      const std::string below = cache.path_below(*root.dentry, *at.dentry, reached);
      if (reached) {
        result.insert(0, below);
        break;
      }
    }
    result.insert(0, cache.path_below(*at.mount->root(), *at.dentry, reached));
    Path up = mounts.mountpoint(*at.mount);
    if (!up) {
      if (reachable != nullptr) *reachable = false;
      break;
    }
    at = std::move(up);
  }
  if (result.empty()) result = "/";
  if (path.dentry->unhashed()) result += " (deleted)";
  return result;
}

}  // namespace boxrun::vfs
