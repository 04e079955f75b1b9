// Inodes and open files of /proc, made of the tables of proc_node.h. An inode is made anew by each
// lookup that finds no dentry in use, and holds its subject by reference: whoever has a file open
// keeps a dead process's objects, not its number.
#include "sentry/kernel/proc_fs.h"

#include <linux/magic.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <functional>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/proc_node.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/access.h"
#include "sentry/vfs/file_description.h"
#include "src/base/check.h"

namespace boxrun::kernel {
namespace {

using vfs::FileType;
using Kind = ProcNode::Kind;

constexpr uint64_t kFirstDynamic = 256;  // the positions of numbered entries in a directory
constexpr size_t kMaxWrite = 4096;       // as Linux: at most a page is taken
constexpr mode_t kReadableDirectory = 0555;

FileType type_of(Kind kind) {
  switch (kind) {
    case Kind::kFile:
    case Kind::kMemory:
      return FileType::kRegular;
    case Kind::kLink:
      return FileType::kSymlink;
    default:
      return FileType::kDirectory;
  }
}

// The number that `name` is in decimal, without leading zeros or signs (fs/proc/util.c:
// name_to_int); -1 otherwise.
int number_of(std::string_view name) {
  int value = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  if (!whole || name.front() == '-' || (name.size() > 1 && name.front() == '0')) return -1;
  return value;
}

const ProcNode kRootNode{.name = "/", .kind = Kind::kRoot, .mode = kReadableDirectory};
const ProcNode& process_node() {
  static const ProcNode node{
      .kind = Kind::kDirectory, .mode = kReadableDirectory, .children = process_nodes()};
  return node;
}
const ProcNode& thread_node() {
  static const ProcNode node{
      .kind = Kind::kDirectory, .mode = kReadableDirectory, .children = thread_nodes()};
  return node;
}

class ProcInode final : public vfs::Inode {
 public:
  ProcInode(ProcFs& fs, const ProcNode& node, ProcSubject subject, uint64_t ino)
      : Inode(fs, type_of(node.kind)),
        fs_(fs),
        node_(node),
        subject_(std::move(subject)),
        ino_(ino),
        made_(fs.kernel().clock().realtime()) {}

  const ProcNode& node() const { return node_; }
  const ProcSubject& subject() const { return subject_; }

  Result<vfs::Attributes> attributes() override;
  Result<void> change(const vfs::AttributeChange& change) override {
    return change.mode ? Errno::kPerm : Errno::kOk;  // fs/proc/base.c: proc_setattr
  }
  Result<void> permission(const Credentials& who, vfs::AccessMask mask) override;
  Result<Ref<vfs::Inode>> lookup(std::string_view name) override;
  bool entry_is_current(const vfs::CachedEntry& entry) override;
  Result<std::string> read_link() override;
  Result<std::unique_ptr<vfs::Path>> magic_link(vfs::Caller& caller) override;
  Result<Ref<vfs::FileDescription>> open(const vfs::OpenRequest& request) override;

  // Adds the entries from `position` on.
  Result<void> iterate(uint64_t& position, uint64_t parent_ino, vfs::DirectorySink& sink);

 private:
  struct Child {
    const ProcNode* node = nullptr;
    ProcSubject subject;
  };
  Result<Child> find(std::string_view name) const;
  Result<Child> find_process(int id) const;
  Result<Child> find_thread(int id) const;
  Result<Child> find_descriptor(int fd) const;
  // Numbers from `from` on, some at a time.
  std::vector<int> numbers(int from) const;
  std::span<const ProcNode> children() const {
    return node_.kind == Kind::kRoot ? system_nodes() : node_.children;
  }
  FileType numbered_type() const;
  Result<void> check_guard() const;
  // Stable for as long as the subject lives, as programs that compare st_ino expect.
  uint64_t ino_of(std::string_view name) const {
    const uint64_t hash = std::hash<std::string_view>()(name);
    return ((ino_ ^ hash) * 0x9e3779b97f4a7c15 >> 16) | 1;
  }

  ProcFs& fs_;
  const ProcNode& node_;
  const ProcSubject subject_;
  const uint64_t ino_;
  const Nanos made_;
};

// Contents are made when reading begins, or begins again; what follows comes from the same text, as
// with Linux's seq_file when nobody seeks.
class ProcTextFile final : public vfs::FileDescription {
 public:
  ProcTextFile(const vfs::OpenRequest& request, const Ref<ProcInode>& inode)
      : FileDescription(request, inode, Positioning::kSeekable), proc_(*inode) {}

 protected:
  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override EXCLUDES(mutex_) {
    if (!proc_.node().text) return Errno::kInval;
    if (offset == 0 || !made()) {
      std::string text = TRY(proc_.node().text(proc_.subject()));
      Lock lock(mutex_);
      text_ = std::move(text);
      made_ = true;
    }
    Lock lock(mutex_);
    if (offset >= text_.size()) return size_t{0};
    return to.put(std::as_bytes(std::span(text_).subspan(offset)));
  }
  Result<size_t> do_write(IoBuffers& from, uint64_t&, const vfs::WriteOptions&) override {
    if (!proc_.node().write) return Errno::kInval;
    std::array<char, kMaxWrite> text;
    const size_t size = TRY(from.take(std::as_writable_bytes(std::span(text))));
    TRY(proc_.node().write(proc_.subject(), {text.data(), size}));
    return size;
  }

 private:
  bool made() EXCLUDES(mutex_) {
    Lock lock(mutex_);
    return made_;
  }
  ProcInode& proc_;
  Mutex mutex_{Rank::kFileData};
  std::string text_ GUARDED_BY(mutex_);
  bool made_ GUARDED_BY(mutex_) = false;
};

// /proc/PID/mem: the memory as it was when the file was opened, whatever is executed later.
class ProcMemoryFile final : public vfs::FileDescription {
 public:
  ProcMemoryFile(const vfs::OpenRequest& request, Ref<ProcInode> inode,
                 Ref<mm::MemoryManager> memory)
      : FileDescription(request, std::move(inode), Positioning::kSeekable),
        memory_(std::move(memory)) {}

 protected:
  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override {
    return each_page(to, offset, [&](uint64_t at, std::span<std::byte> page) -> Result<size_t> {
      TRY(memory_->peek(at, page));
      return to.put(page);
    });
  }
  Result<size_t> do_write(IoBuffers& from, uint64_t& offset, const vfs::WriteOptions&) override {
    return each_page(from, offset, [&](uint64_t at, std::span<std::byte> page) -> Result<size_t> {
      const size_t size = TRY(from.take(page));
      TRY(memory_->poke(at, page.first(size)));
      return size;
    });
  }
  // fs/proc/base.c: mem_lseek takes any offset, also those that are negative as a number.
  Result<uint64_t> do_seek(uint64_t position, int64_t offset, int whence) override {
    if (whence == SEEK_SET) return static_cast<uint64_t>(offset);
    if (whence == SEEK_CUR) return position + static_cast<uint64_t>(offset);
    return Errno::kInval;
  }

 private:
  // EIO when not even the first piece could be moved.
  template <class Move>
  Result<size_t> each_page(IoBuffers& buffers, uint64_t offset, Move move) {
    std::array<std::byte, kPageSize> page;
    size_t done = 0;
    while (!buffers.empty()) {
      const uint64_t at = offset + done;
      const size_t size = std::min<size_t>(buffers.remaining(), kPageSize - at % kPageSize);
      const auto moved = move(at, std::span(page).first(size));
      if (!moved.ok()) {
        if (done != 0) break;
        return Errno::kIo;
      }
      done += *moved;
      if (*moved < size) break;
    }
    return done;
  }
  const Ref<mm::MemoryManager> memory_;
};

class ProcDirectoryFile final : public vfs::FileDescription {
 public:
  ProcDirectoryFile(const vfs::OpenRequest& request, const Ref<ProcInode>& inode)
      : FileDescription(request, inode, Positioning::kSeekable), proc_(*inode) {}

 protected:
  Result<void> do_iterate(uint64_t& position, vfs::DirectorySink& sink) override {
    const Ref<vfs::Dentry> parent = path().dentry->parent();
    const Ref<vfs::Inode> above = parent ? parent->inode() : inode_ref();
    return proc_.iterate(position, TRY(above->attributes()).ino, sink);
  }

 private:
  ProcInode& proc_;
};

Result<vfs::Attributes> ProcInode::attributes() {
  vfs::Attributes out;
  out.dev = fs_.device();
  out.ino = ino_;
  out.type = type();
  out.mode = node_.mode;
  out.nlink = is_directory() ? 2 : 1;
  out.block_size = 1024;
  out.atime = out.mtime = out.ctime = made_;
  if (!subject_.group) return out;
  // fs/proc/base.c: task_dump_owner. What must not be dumped is root's, but for open directories.
  const auto task = subject_.task();
  const bool open_directory = is_directory() && node_.mode == kReadableDirectory;
  const bool dumpable = subject_.group->dumpable.load() == ThreadGroup::Dumpable::kYes;
  if (task.ok() && (dumpable || open_directory)) {
    const Ref<Credentials> cred = (*task)->cred_ref();
    out.uid = cred->euid;
    out.gid = cred->egid;
  }
  if (subject_.fd < 0 || node_.kind != Kind::kLink) return out;
  // The mode of a link in fd/ tells how the file is open.
  if (const auto file = subject_.file(); file.ok()) {
    out.mode =
        static_cast<mode_t>(((*file)->readable() ? 0500 : 0) | ((*file)->writable() ? 0300 : 0));
    out.size = 64;
  }
  return out;
}

Result<void> ProcInode::permission(const Credentials& who, vfs::AccessMask mask) {
  const Result<void> usual = Inode::permission(who, mask);
  if (usual.ok() || node_.kind != Kind::kFds) return usual;
  // fs/proc/fd.c: proc_fd_permission. A process may always list its own.
  const Task* reader = Task::current();
  return reader != nullptr && &reader->group() == subject_.group.get() ? Errno::kOk : usual.error();
}

Result<void> ProcInode::check_guard() const {
  if (node_.guard == ProcNode::Guard::kNone || !subject_.group) return {};
  return may_inspect(*TRY(subject_.task()));
}

Result<ProcInode::Child> ProcInode::find_process(int id) const {
  // Any thread's number works, though only those of processes are listed.
  Ref<Task> task = fs_.kernel().find_task(id);
  if (!task) return Errno::kNoEnt;
  Child child{&process_node(), {.fs = &fs_, .group = Ref<ThreadGroup>(&task->group()), .id = id}};
  if (task->tgid() != id) child.subject.thread = std::move(task);
  return child;
}

Result<ProcInode::Child> ProcInode::find_thread(int id) const {
  Ref<Task> task = fs_.kernel().find_task(id);
  if (!task || &task->group() != subject_.group.get()) return Errno::kNoEnt;
  return Child{&thread_node(),
               {.fs = &fs_, .group = subject_.group, .thread = std::move(task), .id = id}};
}

Result<ProcInode::Child> ProcInode::find_descriptor(int fd) const {
  ProcSubject subject = subject_;
  subject.fd = fd;
  if (!subject.file().ok()) return Errno::kNoEnt;
  const ProcDescriptorNodes& nodes = descriptor_nodes();
  return Child{node_.kind == Kind::kFds ? &nodes.link : &nodes.info, std::move(subject)};
}

Result<ProcInode::Child> ProcInode::find(std::string_view name) const {
  if (!subject_.exists()) return Errno::kNoEnt;
  for (const ProcNode& child : children()) {
    if (name == child.name) return Child{&child, subject_};
  }
  const int number = number_of(name);
  if (number < 0) return Errno::kNoEnt;
  switch (node_.kind) {
    case Kind::kRoot:
      return find_process(number);
    case Kind::kTasks:
      return find_thread(number);
    case Kind::kFds:
    case Kind::kFdInfos:
      return find_descriptor(number);
    default:
      return Errno::kNoEnt;
  }
}

Result<Ref<vfs::Inode>> ProcInode::lookup(std::string_view name) {
  if (!is_directory()) return Errno::kNotDir;
  Child child = TRY(find(name));
  return Ref<vfs::Inode>(
      make_ref<ProcInode>(fs_, *child.node, std::move(child.subject), ino_of(name)));
}

bool ProcInode::entry_is_current(const vfs::CachedEntry& entry) {
  if (entry.child == nullptr) return false;
  const ProcSubject& subject = static_cast<const ProcInode*>(entry.child)->subject();
  return subject.exists() && (subject.fd < 0 || subject.file().ok());
}

Result<std::string> ProcInode::read_link() {
  if (node_.kind != Kind::kLink) return Errno::kInval;
  TRY(check_guard());
  if (node_.text) return node_.text(subject_);
  return path_for_reader(fs_.kernel(), TRY(node_.place(subject_)));
}

Result<std::unique_ptr<vfs::Path>> ProcInode::magic_link(vfs::Caller&) {
  if (!node_.place) return std::unique_ptr<vfs::Path>();
  TRY(check_guard());
  return std::make_unique<vfs::Path>(TRY(node_.place(subject_)));
}

Result<Ref<vfs::FileDescription>> ProcInode::open(const vfs::OpenRequest& request) {
  TRY(check_guard());
  if (is_directory()) {
    return Ref<vfs::FileDescription>(make_ref<ProcDirectoryFile>(request, Ref<ProcInode>(this)));
  }
  if (node_.kind == Kind::kMemory) {
    auto memory = TRY(subject_.memory());
    return Ref<vfs::FileDescription>(
        make_ref<ProcMemoryFile>(request, Ref<ProcInode>(this), std::move(memory)));
  }
  return Ref<vfs::FileDescription>(make_ref<ProcTextFile>(request, Ref<ProcInode>(this)));
}

std::vector<int> ProcInode::numbers(int from) const {
  constexpr size_t kSome = 256;
  std::vector<int> found;
  if (node_.kind == Kind::kRoot) {
    TreeLock tree(fs_.kernel().tree());
    for (const ThreadGroup* group : fs_.kernel().pids().groups(tree)) {
      if (group->tgid >= from && found.size() < kSome) found.push_back(group->tgid);
    }
  } else if (node_.kind == Kind::kTasks) {
    TreeLock tree(fs_.kernel().tree());
    for (const Ref<Task>& task : subject_.group->links(tree).tasks) {
      if (task->tid() >= from) found.push_back(task->tid());
    }
    std::sort(found.begin(), found.end());
    if (found.size() > kSome) found.resize(kSome);
  } else if (node_.kind == Kind::kFds || node_.kind == Kind::kFdInfos) {
    const auto task = subject_.task();
    const auto fds = task.ok() ? (*task)->resources().fds : nullptr;
    if (fds) found = fds->list(from, kSome);
  }
  return found;
}

FileType ProcInode::numbered_type() const {
  if (node_.kind == Kind::kFds) return FileType::kSymlink;
  return node_.kind == Kind::kFdInfos ? FileType::kRegular : FileType::kDirectory;
}

Result<void> ProcInode::iterate(uint64_t& position, uint64_t parent_ino, vfs::DirectorySink& sink) {
  if (!subject_.exists()) return Errno::kNoEnt;
  const auto add = [&](std::string_view name, uint64_t ino, FileType type, uint64_t next) {
    if (!sink.add({name, ino, type, next})) return false;
    position = next;
    return true;
  };
  if (position == 0 && !add(".", ino_, FileType::kDirectory, 1)) return {};
  if (position == 1 && !add("..", parent_ino, FileType::kDirectory, 2)) return {};
  const std::span<const ProcNode> fixed = children();
  while (position < kFirstDynamic && position - 2 < fixed.size()) {
    const ProcNode& child = fixed[position - 2];
    if (!add(child.name, ino_of(child.name), type_of(child.kind), position + 1)) return {};
  }
  position = std::max(position, kFirstDynamic);
  for (;;) {
    if (position - kFirstDynamic > INT32_MAX) return {};
    const std::vector<int> some = numbers(static_cast<int>(position - kFirstDynamic));
    if (some.empty()) return {};
    for (const int number : some) {
      const std::string name = std::to_string(number);
      const uint64_t next = kFirstDynamic + static_cast<uint64_t>(number) + 1;
      if (!add(name, ino_of(name), numbered_type(), next)) return {};
    }
  }
}

std::string make_boot_id() {
  std::array<unsigned char, 16> bytes{};
  // Up to 256 bytes always come whole (getrandom(2)).
  CHECK(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return format_uuid(bytes);
}

}  // namespace

ProcFs::ProcFs(Kernel& kernel, uint64_t device)
    : FileSystem({.type = "proc",
                  .device = device,
                  .caches_names = false,
                  .rename_rank = Rank::kProcRename,
                  .directory_rank = Rank::kProcDirectory}),
      kernel_(kernel),
      boot_id_(make_boot_id()) {}

Ref<ProcFs> ProcFs::create(Kernel& kernel, uint64_t device) {
  return adopt_ref(new ProcFs(kernel, device));
}

Ref<vfs::Inode> ProcFs::root() {
  return make_ref<ProcInode>(*this, kRootNode, ProcSubject{.fs = this}, 1);
}

Result<vfs::Statistics> ProcFs::statistics() { return vfs::Statistics{.magic = PROC_SUPER_MAGIC}; }

}  // namespace boxrun::kernel
