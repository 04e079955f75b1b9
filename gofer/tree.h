// The names below the declared mounts, as one session has walked them, and the descriptors that are
// held for them.
#pragma once
#include <fcntl.h>

#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gofer/hide.h"
#include "gofer/host_file.h"
#include "src/base/sync.h"

namespace boxrun::gofer {

enum class MountAccess : uint8_t { kReadOnly, kReadWrite };

// One declared mount, by whoever starts the Gofer.
struct MountSource {
  std::string name;  // what the client attaches to (aname)
  UniqueFd root;     // O_PATH descriptor of the source
  MountAccess access = MountAccess::kReadOnly;
  std::string host_path;  // absolute path of the source, for absolute hide patterns only
  std::vector<std::string> hide;
  std::vector<std::string> shown;  // absolute paths, see HidePatterns
};

// How a request was refused: the errno travels in the Result, the rule of ours here.
struct Denial {
  Rule rule = Rule::kNone;
  Errno deny(Rule why, Errno error) {
    rule = why;
    return error;
  }
};

class Tree;

struct Mount {
  std::string name;
  MountAccess access;
  HidePatterns patterns;
  std::vector<uint64_t> devices;  // their places are the high bits of qid.path; Tree's lock
};

// One name in one directory: what a fid stands for. While the Tree has descriptors to spare it
// holds an O_PATH descriptor; otherwise the file is found again from its parent, by name, and
// checked to be the same. Owned by fids and by the nodes below it; the mutable fields belong to
// the Tree and its lock.
class Node final : public RefCounted {
 public:
  ~Node() override;

  Mount& mount() const { return mount_; }
  FileId id() const { return id_; }
  mode_t type() const { return type_; }  // the S_IFMT bits
  bool is_root() const { return root_; }
  QidType qid_type() const { return gofer::qid_type(type_); }

 private:
  friend class Tree;
  Node(Tree& tree, Mount& mount, FileId id, mode_t type)
      : tree_(tree), mount_(mount), id_(id), type_(type) {}

  Tree& tree_;
  Mount& mount_;
  const FileId id_;
  const mode_t type_;
  bool root_ = false;

  Ref<Node> parent_;  // null: a root, or no name is known any more
  std::string name_;
  Ref<HideState> hide_;
  std::unordered_map<std::string_view, Node*> children_;  // keyed by their name_
  UniqueFd fd_;
  uint32_t pins_ = 0;
  bool in_lru_ = false;
  std::list<Node*>::iterator lru_;
};

// A node's descriptor, sure to stay open until this is destroyed.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&& other) noexcept : tree_(other.tree_), node_(std::move(other.node_)), fd_(other.fd_) {}
  Pin& operator=(Pin&& other) noexcept {
    std::swap(tree_, other.tree_);
    std::swap(node_, other.node_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Pin();
  int fd() const { return fd_; }

 private:
  friend class Tree;
  Pin(Tree& tree, Ref<Node> node, int fd) : tree_(&tree), node_(std::move(node)), fd_(fd) {}
  Tree* tree_ = nullptr;
  Ref<Node> node_;
  int fd_ = -1;
};

// All mounts of a session. Thread-safe; one lock (kGoferTree), never held over a call that may wait
// for a disk.
class Tree {
 public:
  // At most `max_held` descriptors are held for nodes that nobody uses at the moment. Sources must
  // have been checked (check_mount_source) and their patterns are valid.
  static Result<std::unique_ptr<Tree>> create(std::vector<MountSource> sources, ProcFds proc,
                                              size_t max_held);
  ~Tree();

  // The root of a mount. An empty name or "/" is the first one. ENOENT when there is none.
  Result<Ref<Node>> root(std::string_view mount, Denial& denial);
  // The file `name` in `directory`, which is never "." or "..". Symbolic links are not followed.
  Result<Ref<Node>> step(Node& directory, std::string_view name, Denial& denial,
                         HostStat* status = nullptr);

  Result<Pin> pin(Node& node);
  // What was walked to under this name before, if that is still referenced. It is pinned before its
  // name is removed, or it could not be found again.
  Ref<Node> known(Node& directory, std::string_view name);
  Result<HostStat> stat(Node& node);
  // Opens a file or directory with these open(2) flags; EISDIR, ELOOP, ENXIO for what is never
  // opened. Nothing waits: FIFOs and devices are refused before they are touched.
  Result<UniqueFd> open(Node& node, int flags, Denial& denial);
  // The file behind `file`, which has no name (O_TMPFILE), in the mount of `directory`.
  Result<Ref<Node>> adopt_unnamed(Node& directory, int file);

  // ENOENT when `name` is hidden in `directory`, EACCES if it would be made there; EINVAL for what
  // is no name.
  enum class Purpose : uint8_t { kFind, kMake };
  Result<void> check_name(Node& directory, std::string_view name, Purpose purpose, Denial& denial);
  bool hidden(Node& directory, std::string_view name);

  // Bookkeeping after the host renamed or removed something.
  void removed(Node& directory, std::string_view name);
  void renamed(Node& old_dir, std::string_view old_name, Node& new_dir, std::string_view new_name);
  void exchanged(Node& old_dir, std::string_view old_name, Node& new_dir,
                 std::string_view new_name);
  // False when moving the directory `node` would change which names below it are hidden.
  bool may_move(Node& node, Node& new_dir, std::string_view new_name);
  // Where a file is: ESTALE when it has no name any more, EBUSY for the root of a mount.
  struct Place {
    Ref<Node> directory;
    std::string name;
  };
  Result<Place> place(Node& node);

  // For the guest: files with equal paths are one file. The host's inode number on the mount's own
  // file system; file systems mounted below it are told apart in the upper bits.
  uint64_t qid_path(Node& node);
  uint64_t qid_path(Mount& mount, FileId id);

  const ProcFds& proc() const { return proc_; }
  size_t held() const;

 private:
  friend class Node;
  friend class Pin;
  Tree(ProcFds proc, size_t max_held) : proc_(std::move(proc)), max_held_(max_held) {}

  Result<UniqueFd> open_child(int directory, const std::string& name);
  Result<Pin> reopen(Node& node);
  Result<UniqueFd> open_by_name(Node& node, int flags);
  Node* child_locked(Node& directory, std::string_view name) REQUIRES(mutex_);
  void attach_locked(Node& node, Ref<Node> parent, std::string_view name) REQUIRES(mutex_);
  void detach_locked(Node& node) REQUIRES(mutex_);
  Pin pin_locked(Node& node) REQUIRES(mutex_);
  Pin hold_and_pin(Node& node, UniqueFd fd);
  void hold_locked(Node& node, UniqueFd fd) REQUIRES(mutex_);
  void let_go_locked(Node& node) REQUIRES(mutex_);
  void update_lru_locked(Node& node) REQUIRES(mutex_);
  void shrink_locked(size_t target) REQUIRES(mutex_);
  void unpin(Node& node);
  void destroyed(Node& node);

  const ProcFds proc_;
  const size_t max_held_;
  std::vector<std::unique_ptr<Mount>> mounts_;
  std::vector<Ref<Node>> roots_;  // of mounts_; their descriptors are never given up

  mutable Mutex mutex_{Rank::kGoferTree};
  std::list<Node*> lru_ GUARDED_BY(mutex_);  // held, not pinned, may be closed; oldest first
  size_t held_ GUARDED_BY(mutex_) = 0;
  size_t nameless_ GUARDED_BY(mutex_) = 0;  // held ones that could not be found again
};

// Why a mount source is not acceptable: EACCES for proc, sysfs and their like, ENOTDIR or ELOOP for
// what is neither a directory nor a regular file.
Result<void> check_mount_source(int root);

}  // namespace boxrun::gofer
