// A guest whose root directory is a 9P mount of a temporary tree, served by a real Gofer session.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "sentry/fs/p9_fs.h"
#include "sentry/time/call.h"
#include "sentry/vfs/operations.h"
#include "sentry/vfs/walk.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/vfs_fixture.h"

namespace boxrun::fs::testing {

// A channel that loses the descriptors of some packets, as a process does that may have no more.
class LosingChannel final : public gofer::Channel {
 public:
  static inline std::atomic<int> to_lose = 0;
  static std::unique_ptr<Channel> wrap(std::unique_ptr<Channel> inner) {
    return std::make_unique<LosingChannel>(std::move(inner));
  }
  explicit LosingChannel(std::unique_ptr<Channel> inner) : inner_(std::move(inner)) {}

  Result<void> send(gofer::Data packet, const gofer::FdList& fds) override {
    return inner_->send(packet, fds);
  }
  Result<size_t> receive(std::span<std::byte> into, gofer::FdList& fds) override {
    const size_t size = TRY(inner_->receive(into, fds));
    if (fds.size() > 0 && to_lose > 0) {
      to_lose--;
      fds.clear();
      fds.set_lost();
    }
    return size;
  }
  bool carries_fds() const override { return inner_->carries_fds(); }
  void shut_down() override { inner_->shut_down(); }

 private:
  std::unique_ptr<Channel> inner_;
};

class Guest {
 public:
  explicit Guest(const gofer::TempTree& tree, P9Cache cache = P9Cache::kExclusive,
                 gofer::MountAccess access = gofer::MountAccess::kReadWrite,
                 std::vector<std::string> hide = {}, size_t max_kept = 256, bool watches = false,
                 P9Fs::Config config = {})
      : served(tree.path(), {.access = access,
                             .hide = std::move(hide),
                             .channels = 2,
                             .watches = watches,
                             .wrap = LosingChannel::wrap}),
        client(*served.client),
        connection(make_ref<P9Connection>(std::move(served.client), max_kept)),
        p9(P9Fs::create({.device = 9,
                         .mount = "m",
                         .cache = cache,
                         .read_only = access == gofer::MountAccess::kReadOnly,
                         .unmapped_uid = config.unmapped_uid,
                         .unmapped_gid = config.unmapped_gid},
                        connection)
               .take()),
        mounts(vfs::MountNamespace::create(vfs::Mount::create({.file_system = p9}))),
        fs_context(make_ref<vfs::FsContext>(mounts->root(), mounts->root(), 022)),
        caller{*fs_context, vfs::testing::root_user(), *mounts, special_files, &denials} {
    served.root_file = {};
  }

  vfs::At at(std::string_view path) const { return {fs_context->cwd(), path}; }
  Result<Ref<vfs::FileDescription>> open(std::string_view path, int flags, mode_t mode = 0644) {
    begin_call();
    return open_at(caller, at(path), TRY(vfs::check_open_flags({flags, mode, 0}, false)));
  }
  Result<vfs::Attributes> stat(std::string_view path) {
    begin_call();
    const vfs::Path place = TRY(vfs::walk(caller, fs_context->cwd(), path, {}));
    return place.dentry->inode() ? place.dentry->inode()->attributes() : Errno::kNoEnt;
  }
  Result<std::string> read(std::string_view path) {
    Ref<vfs::FileDescription> file = TRY(open(path, O_RDONLY));
    std::array<std::byte, 256> data;
    IoBuffers to{std::span<std::byte>(data)};
    const size_t size = TRY(file->read(to));
    return std::string(reinterpret_cast<char*>(data.data()), size);
  }
  // How many round trips `action` takes.
  template <class Action>
  uint64_t trips(Action action) {
    const uint64_t before = client.round_trips();
    action();
    return client.round_trips() - before;
  }

  gofer::Served served;
  gofer::Client& client;
  Ref<P9Connection> connection;
  Ref<P9Fs> p9;
  Ref<vfs::MountNamespace> mounts;
  Ref<vfs::FsContext> fs_context;
  vfs::testing::NoSpecialFiles special_files;
  vfs::testing::Denials denials;
  vfs::Caller caller;
};

}  // namespace boxrun::fs::testing
