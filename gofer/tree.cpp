#include "gofer/tree.h"

#include <utility>

namespace boxrun::gofer {
namespace {

Result<void> refuse_unopenable(mode_t type, Denial& denial) {
  if (type == S_IFREG || type == S_IFDIR) return {};
  if (type == S_IFLNK) return Errno::kLoop;
  // What open(2) says of a socket, and of a FIFO or device that nobody serves.
  return denial.deny(Rule::kSpecialFile, Errno::kNxIo);
}

}  // namespace

Result<void> check_mount_source(int root) {
  TRY(check_file_system(root));
  const HostStat st = TRY(stat_fd(root));
  if (st.is(S_IFLNK)) return Errno::kLoop;
  if (!st.is(S_IFDIR) && !st.is(S_IFREG)) return Errno::kNotDir;
  return {};
}

Node::~Node() { tree_.destroyed(*this); }

Pin::~Pin() {
  if (node_) tree_->unpin(*node_);
}

Result<std::unique_ptr<Tree>> Tree::create(std::vector<MountSource> sources, ProcFds proc,
                                           size_t max_held) {
  std::unique_ptr<Tree> tree(new Tree(std::move(proc), max_held));
  for (MountSource& source : sources) {
    const HostStat st = TRY(stat_fd(source.root.get()));
    auto mount = std::make_unique<Mount>(Mount{source.name,
                                               source.access,
                                               TRY(HidePatterns::create(source.hide, source.shown)),
                                               {st.id.dev}});
    Ref<Node> root = adopt_ref(new Node(*tree, *mount, st.id, st.attr.mode & S_IFMT));
    root->root_ = true;
    root->hide_ = mount->patterns.root_state(source.host_path);
    root->fd_ = std::move(source.root);
    tree->mounts_.push_back(std::move(mount));
    tree->roots_.push_back(std::move(root));
  }
  return tree;
}

Tree::~Tree() = default;

Result<Ref<Node>> Tree::root(std::string_view mount, Denial& denial) {
  const bool first = mount.empty() || mount == "/";
  for (const Ref<Node>& root : roots_) {
    if (!first && root->mount().name != mount) continue;
    if (root->hide_->hidden()) return denial.deny(Rule::kHidden, Errno::kNoEnt);
    return Ref<Node>(root);
  }
  return Errno::kNoEnt;
}

Result<void> Tree::check_name(Node& directory, std::string_view name, Purpose purpose,
                              Denial& denial) {
  if (directory.type() != S_IFDIR) return Errno::kNotDir;
  if (name.size() > kMaxName) return Errno::kNameTooLong;
  if (!valid_name(name)) return Errno::kInval;
  if (!hidden(directory, name)) return {};
  if (purpose == Purpose::kMake) return denial.deny(Rule::kHidden, Errno::kAcces);
  // Looking for what is not there is nothing to report: programs look for many files.
  const Pin pinned = TRY(pin(directory));
  TRY(open_child(pinned.fd(), std::string(name)));
  return denial.deny(Rule::kHidden, Errno::kNoEnt);
}

bool Tree::hidden(Node& directory, std::string_view name) {
  const Lock lock(mutex_);
  if (const Node* child = child_locked(directory, name)) return child->hide_->hidden();
  return directory.mount().patterns.step(directory.hide_, name)->hidden();
}

bool Tree::may_move(Node& node, Node& new_dir, std::string_view new_name) {
  if (node.type() != S_IFDIR) return true;
  const Lock lock(mutex_);
  return *new_dir.mount().patterns.step(new_dir.hide_, new_name) == *node.hide_;
}

Result<UniqueFd> Tree::open_child(int directory, const std::string& name) {
  constexpr int kFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  Result<UniqueFd> fd = own_fd(openat(directory, name.c_str(), kFlags));
  if (fd.error() != Errno::kMFile && fd.error() != Errno::kNFile) return fd;
  {
    const Lock lock(mutex_);
    shrink_locked(held_ / 2);
  }
  return own_fd(openat(directory, name.c_str(), kFlags));
}

Result<Ref<Node>> Tree::step(Node& directory, std::string_view name, Denial& denial,
                             HostStat* status) {
  TRY(check_name(directory, name, Purpose::kFind, denial));
  const Pin pinned = TRY(pin(directory));
  UniqueFd fd = TRY(open_child(pinned.fd(), std::string(name)));
  const HostStat st = TRY(stat_fd(fd.get()));
  if (status != nullptr) *status = st;
  if (st.id.dev != directory.id().dev && !check_file_system(fd.get())) {
    return denial.deny(Rule::kFileSystem, Errno::kAcces);
  }
  const mode_t type = st.attr.mode & S_IFMT;
  const Lock lock(mutex_);
  if (Node* old = child_locked(directory, name); old != nullptr) {
    if (old->id() == st.id && old->type() == type && old->try_ref()) {
      Ref<Node> same = adopt_ref(old);
      if (!same->fd_) hold_locked(*same, std::move(fd));
      return same;
    }
    detach_locked(*old);  // the host put another file in its place
  }
  Ref<Node> node = adopt_ref(new Node(*this, directory.mount(), st.id, type));
  node->hide_ = directory.mount().patterns.step(directory.hide_, name);
  attach_locked(*node, Ref<Node>(&directory), name);
  hold_locked(*node, std::move(fd));
  return node;
}

Result<Ref<Node>> Tree::adopt_unnamed(Node& directory, int file) {
  UniqueFd fd = TRY(proc_.reopen(file, O_PATH));
  const HostStat st = TRY(stat_fd(fd.get()));
  const Lock lock(mutex_);
  if (nameless_ >= max_held_ / 2) return Errno::kNFile;
  Ref<Node> node = adopt_ref(new Node(*this, directory.mount(), st.id, st.attr.mode & S_IFMT));
  node->hide_ = directory.hide_;
  hold_locked(*node, std::move(fd));
  nameless_++;
  return node;
}

Ref<Node> Tree::known(Node& directory, std::string_view name) {
  const Lock lock(mutex_);
  Node* child = child_locked(directory, name);
  return child != nullptr && child->try_ref() ? adopt_ref(child) : Ref<Node>();
}

Result<Pin> Tree::pin(Node& node) {
  {
    const Lock lock(mutex_);
    if (node.fd_) return pin_locked(node);
  }
  return reopen(node);
}

// Climbs to the nearest ancestor that is held and walks down again. Names that the host changed
// meanwhile lead to another file: ESTALE, and the client looks the path up afresh.
Result<Pin> Tree::reopen(Node& node) {
  struct Name {
    Ref<Node> node;
    std::string name;
  };
  std::vector<Name> path;
  Ref<Node> top;
  {
    const Lock lock(mutex_);
    Node* climb = &node;
    while (!climb->fd_) {
      if (!climb->parent_) return Errno::kStale;
      path.push_back({Ref<Node>(climb), climb->name_});
      climb = climb->parent_.get();
    }
    top = Ref<Node>(climb);
  }
  Pin pinned = TRY(pin(*top));
  for (auto name = path.rbegin(); name != path.rend(); ++name) {
    UniqueFd fd = TRY(open_child(pinned.fd(), name->name));
    const HostStat st = TRY(stat_fd(fd.get()));
    if (st.id != name->node->id()) return Errno::kStale;
    pinned = hold_and_pin(*name->node, std::move(fd));
  }
  return pinned;
}

Pin Tree::hold_and_pin(Node& node, UniqueFd fd) {
  const Lock lock(mutex_);
  Pin pinned = pin_locked(node);  // first, or the new descriptor might be given up at once
  if (!node.fd_) hold_locked(node, std::move(fd));
  pinned.fd_ = node.fd_.get();
  return pinned;
}

Result<Tree::Place> Tree::place(Node& node) {
  if (node.is_root()) return Errno::kBusy;
  const Lock lock(mutex_);
  if (!node.parent_) return Errno::kStale;
  return Place{node.parent_, node.name_};
}

Result<HostStat> Tree::stat(Node& node) {
  const Pin pinned = TRY(pin(node));
  HostStat st = TRY(stat_fd(pinned.fd()));
  st.attr.qid.path = qid_path(node);
  return st;
}

Result<UniqueFd> Tree::open(Node& node, int flags, Denial& denial) {
  TRY(refuse_unopenable(node.type(), denial));
  const Pin pinned = TRY(pin(node));
  if (node.type() == S_IFDIR) {
    if ((flags & O_ACCMODE) != O_RDONLY) return Errno::kIsDir;
    return own_fd(openat(pinned.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  // O_NONBLOCK: a lease of another process must not make us wait for it (fcntl(2), F_SETLEASE).
  flags |= O_NONBLOCK | O_NOFOLLOW;
  if (proc_) return proc_.reopen(pinned.fd(), flags & ~O_NOFOLLOW);
  return open_by_name(node, flags);
}

Result<UniqueFd> Tree::open_by_name(Node& node, int flags) {
  const Place at = TRY(place(node));
  const Pin directory = TRY(pin(*at.directory));
  // Emptied only when it is known to be the right file.
  const int careful = (flags & ~O_TRUNC) | O_CLOEXEC | O_NOCTTY;
  UniqueFd fd = TRY(own_fd(openat(directory.fd(), at.name.c_str(), careful)));
  if (TRY(stat_fd(fd.get())).id != node.id()) return Errno::kStale;
  if ((flags & O_TRUNC) != 0 && ftruncate(fd.get(), 0) < 0) return last_error();
  return fd;
}

void Tree::removed(Node& directory, std::string_view name) {
  const Lock lock(mutex_);
  if (Node* child = child_locked(directory, name); child != nullptr) detach_locked(*child);
}

void Tree::renamed(Node& old_dir, std::string_view old_name, Node& new_dir,
                   std::string_view new_name) {
  const Lock lock(mutex_);
  Node* moved = child_locked(old_dir, old_name);
  Node* replaced = child_locked(new_dir, new_name);
  if (moved == replaced) return;
  if (replaced != nullptr) detach_locked(*replaced);
  if (moved == nullptr) return;
  old_dir.children_.erase(moved->name_);
  moved->hide_ = new_dir.mount().patterns.step(new_dir.hide_, new_name);
  attach_locked(*moved, Ref<Node>(&new_dir), new_name);
}

void Tree::exchanged(Node& old_dir, std::string_view old_name, Node& new_dir,
                     std::string_view new_name) {
  const Lock lock(mutex_);
  Node* a = child_locked(old_dir, old_name);
  Node* b = child_locked(new_dir, new_name);
  if (a == b) return;
  if (a != nullptr) old_dir.children_.erase(a->name_);
  if (b != nullptr) new_dir.children_.erase(b->name_);
  if (a != nullptr) {
    a->hide_ = new_dir.mount().patterns.step(new_dir.hide_, new_name);
    attach_locked(*a, Ref<Node>(&new_dir), new_name);
  }
  if (b != nullptr) {
    b->hide_ = old_dir.mount().patterns.step(old_dir.hide_, old_name);
    attach_locked(*b, Ref<Node>(&old_dir), old_name);
  }
}

uint64_t Tree::qid_path(Node& node) { return qid_path(node.mount(), node.id()); }

uint64_t Tree::qid_path(Mount& mount, FileId id) {
  const Lock lock(mutex_);
  uint64_t index = 0;
  while (index < mount.devices.size() && mount.devices[index] != id.dev) index++;
  // A mount with that many file systems below it is not bounded by us: the last place is shared.
  if (index == mount.devices.size() && index < UINT16_MAX) mount.devices.push_back(id.dev);
  return id.ino ^ index << 48;
}

size_t Tree::held() const {
  const Lock lock(mutex_);
  return held_;
}

Node* Tree::child_locked(Node& directory, std::string_view name) {
  const auto found = directory.children_.find(name);
  return found == directory.children_.end() ? nullptr : found->second;
}

// The old parent, if any, is kept alive by the caller: its last reference must not go under the
// lock.
void Tree::attach_locked(Node& node, Ref<Node> parent, std::string_view name) {
  node.name_ = name;
  node.parent_ = std::move(parent);
  node.parent_->children_.emplace(node.name_, &node);
  update_lru_locked(node);
}

void Tree::detach_locked(Node& node) {
  node.parent_->children_.erase(node.name_);
  node.parent_ = nullptr;
  // Its descriptor is the only way to the file now. There must be some left for everybody else.
  if (node.fd_) {
    nameless_++;
    if (nameless_ > max_held_ / 2 && node.pins_ == 0) let_go_locked(node);
  }
  update_lru_locked(node);
}

Pin Tree::pin_locked(Node& node) {
  node.pins_++;
  update_lru_locked(node);
  return {*this, Ref<Node>(&node), node.fd_.get()};
}

void Tree::hold_locked(Node& node, UniqueFd fd) {
  node.fd_ = std::move(fd);
  held_++;
  update_lru_locked(node);
  shrink_locked(max_held_);
}

void Tree::let_go_locked(Node& node) {
  if (!node.parent_) nameless_--;
  node.fd_.reset();
  held_--;
  update_lru_locked(node);
}

// Most recently used last; only what could be found again is in the list.
void Tree::update_lru_locked(Node& node) {
  if (std::exchange(node.in_lru_, false)) lru_.erase(node.lru_);
  if (!node.fd_ || !node.parent_ || node.pins_ > 0) return;
  node.lru_ = lru_.insert(lru_.end(), &node);
  node.in_lru_ = true;
}

void Tree::shrink_locked(size_t target) {
  while (held_ > target && !lru_.empty()) let_go_locked(*lru_.front());
}

void Tree::unpin(Node& node) {
  const Lock lock(mutex_);
  node.pins_--;
  update_lru_locked(node);
  shrink_locked(max_held_);
}

// The last reference of `node` went. A chain of ancestors that only it kept alive is taken apart
// here, one by one: destructors calling each other would be as deep as a guest's directories.
void Tree::destroyed(Node& node) {
  Ref<Node> up;
  {
    const Lock lock(mutex_);
    if (node.fd_ && !node.root_) let_go_locked(node);
    if (node.parent_) {
      if (child_locked(*node.parent_, node.name_) == &node) {
        node.parent_->children_.erase(node.name_);
      }
      up = std::exchange(node.parent_, nullptr);
    }
  }
  while (up) {
    Ref<Node> next;
    {
      const Lock lock(mutex_);
      // Ours is the last reference, and new ones come only from the parent's list, under the lock.
      if (up->ref_count() == 1 && up->parent_) {
        if (up->fd_) let_go_locked(*up);
        up->parent_->children_.erase(up->name_);
        next = std::exchange(up->parent_, nullptr);
      }
    }
    up = std::move(next);
  }
}

}  // namespace boxrun::gofer
