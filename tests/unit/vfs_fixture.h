#pragma once
#include <linux/openat2.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sentry/fs/tmp_fs.h"
#include "sentry/mm/memory_file.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/operations.h"
#include "src/base/bytes.h"

namespace boxrun::vfs::testing {

// A clock that stands still until it is told otherwise.
class FakeClock final : public Clock {
 public:
  Nanos realtime() const override { return now; }
  Nanos monotonic() const override { return now; }
  Nanos boottime() const override { return now; }
  Nanos now = 1'000 * kSecond;
};

class Denials final : public DenialSink {
 public:
  void denied(const Denial& denial) override {
    seen.emplace_back(denial.kind, std::string(denial.target));
    directories.emplace_back(denial.directory);
  }
  std::vector<std::pair<Denial::Kind, std::string>> seen;
  std::vector<std::string> directories;  // Denial::directory of each
};

class NoSpecialFiles final : public SpecialFiles {
 public:
  Result<Ref<FileDescription>> open(Inode&, const OpenRequest&) override { return Errno::kNxIo; }
};

inline Ref<Credentials> root_user() { return Credentials::create(0, 0, {}, CapSet::all()); }
inline Ref<Credentials> user(uid_t uid, std::vector<gid_t> groups = {}) {
  return Credentials::create(uid, uid, std::move(groups), {});
}

// A caller in the root of a file system.
class View {
 public:
  explicit View(Ref<FileSystem> root, Ref<Credentials> who = root_user())
      : mounts(MountNamespace::create(Mount::create({.file_system = std::move(root)}))),
        fs_context(make_ref<FsContext>(mounts->root(), mounts->root(), 022)),
        caller{*fs_context, std::move(who), *mounts, special_files, &denials} {}

  At at(std::string_view path) const { return {fs_context->cwd(), path}; }
  Result<Ref<FileDescription>> open(std::string_view path, int flags, mode_t mode = 0644,
                                    uint64_t resolve = 0) {
    return open_at(caller, at(path), TRY(check_open_flags({flags, mode, resolve}, false)));
  }
  Result<Path> place(std::string_view path, Follow follow = Follow::kYes) {
    return walk(caller, fs_context->cwd(), path, {.follow = follow});
  }
  Result<std::string> name_of(std::string_view path) {
    return path_of(*mounts, fs_context->root(), TRY(place(path)));
  }
  Errno mkdir(std::string_view path, mode_t mode = 0755) {
    return make_directory(caller, at(path), mode).error();
  }
  Errno symlink(std::string_view target, std::string_view path) {
    return make_symlink(caller, at(path), target).error();
  }
  Errno link(std::string_view from, std::string_view to) {
    return link_at(caller, at(from), at(to), 0).error();
  }
  Errno unlink(std::string_view path) { return unlink_file(caller, at(path)).error(); }
  Errno rmdir(std::string_view path) { return remove_directory(caller, at(path)).error(); }
  Errno rename(std::string_view from, std::string_view to, uint32_t flags = 0) {
    return rename_at(caller, at(from), at(to), flags).error();
  }
  Errno chmod(std::string_view path, mode_t mode) {
    const auto file = place(path);
    return file.ok() ? change_mode(caller, *file, mode).error() : file.error();
  }
  Errno truncate(std::string_view path, uint64_t size) {
    const auto file = place(path);
    return file.ok() ? truncate_place(caller, *file, size).error() : file.error();
  }
  // The names in a directory, sorted.
  Result<std::vector<std::string>> list(std::string_view path);
  Errno write_file(std::string_view path, std::string_view text, mode_t mode = 0644) {
    auto file = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (!file.ok()) return file.error();
    IoBuffers from(as_bytes_of(text.data(), text.size()));
    return (*file)->write(from, {}).error();
  }
  Result<std::string> read_file(std::string_view path) {
    const Ref<FileDescription> file = TRY(open(path, O_RDONLY));
    return read_all(*file);
  }
  static Result<std::string> read_all(FileDescription& file, size_t max = 65536) {
    std::string text(max, '\0');
    IoBuffers to(std::as_writable_bytes(std::span(text)));
    text.resize(TRY(file.read(to)));
    return text;
  }
  Result<Attributes> stat(std::string_view path, int flags = 0) {
    return stat_at(caller, at(path), flags);
  }
  // Acts as somebody else from now on.
  void become(Ref<Credentials> who) { caller.credentials = std::move(who); }

  Denials denials;
  NoSpecialFiles special_files;
  Ref<MountNamespace> mounts;
  Ref<FsContext> fs_context;
  Caller caller;
};

// What tmpfs are made of.
struct TmpParts {
  explicit TmpParts(uint64_t memory)
      : memory_file(mm::MemoryFile::create(mm::MemoryFile::make_backing(-1).take(), memory).take()),
        file_system(make(7)) {
    install_fault_handlers();
  }
  Ref<fs::TmpFs> make(uint64_t device) {
    return fs::TmpFs::create({.device = device, .root_mode = 0755}, *memory_file, clock);
  }
  FakeClock clock;
  std::unique_ptr<mm::MemoryFile> memory_file;
  Ref<fs::TmpFs> file_system;
};

// A tree of one tmpfs, and a caller in its root.
class Tree : public TmpParts, public View {
 public:
  explicit Tree(Ref<Credentials> who = root_user(), uint64_t memory = 64 << 20)
      : TmpParts(memory), View(file_system, std::move(who)) {}
};

// Names of a directory, in order, without "." and "..".
class NameSink final : public DirectorySink {
 public:
  explicit NameSink(size_t room = SIZE_MAX) : room_(room) {}
  bool add(const Entry& entry) override {
    if (room_ == 0) return false;
    room_--;
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  }
  std::vector<std::string> names;

 private:
  size_t room_;
};

inline Result<std::vector<std::string>> View::list(std::string_view path) {
  const Ref<FileDescription> directory = TRY(open(path, O_RDONLY | O_DIRECTORY));
  NameSink sink;
  size_t before = 0;
  do {
    before = sink.names.size();
    TRY(directory->read_directory(sink));
  } while (sink.names.size() != before);
  std::ranges::sort(sink.names);
  return std::move(sink.names);
}

}  // namespace boxrun::vfs::testing
