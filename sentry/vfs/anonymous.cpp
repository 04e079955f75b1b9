#include "sentry/vfs/anonymous.h"

#include <fcntl.h>

#include <utility>

#include "sentry/vfs/access.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::vfs {
namespace {

class AnonymousInode final : public Inode {
 public:
  AnonymousInode(AnonymousFileSystem& file_system, FileType type, Attributes attributes)
      : Inode(file_system, type), clock_(file_system.clock()), attributes_(attributes) {}

  Result<Attributes> attributes() override {
    Lock lock(mutex_);
    return attributes_;
  }

  Result<void> change(const AttributeChange& change) override {
    const Nanos now = clock_.realtime();
    const auto time = [&](const TimeChange& t) { return t.now ? now : t.value; };
    if (change.size) return Errno::kInval;
    Lock lock(mutex_);
    if (change.mode) attributes_.mode = *change.mode;
    if (change.uid) attributes_.uid = *change.uid;
    if (change.gid) attributes_.gid = *change.gid;
    if (change.atime) attributes_.atime = time(*change.atime);
    if (change.mtime) attributes_.mtime = time(*change.mtime);
    attributes_.ctime = now;
    return {};
  }

 private:
  const Clock& clock_;
  Mutex mutex_{Rank::kInode};
  Attributes attributes_ GUARDED_BY(mutex_);
};

}  // namespace

AnonymousFileSystem::AnonymousFileSystem(Properties properties, uint64_t magic, const Clock& clock)
    : FileSystem(std::move(properties)), magic_(magic), clock_(clock) {
  Attributes attributes;
  attributes.dev = device();
  attributes.ino = 1;
  attributes.type = FileType::kDirectory;
  attributes.mode = 0600;
  root_ = make_ref<AnonymousInode>(*this, FileType::kDirectory, attributes);
}

Ref<Mount> AnonymousFileSystem::create(std::string type, uint64_t device, uint64_t magic,
                                       const Clock& clock) {
  Properties properties{.type = std::move(type), .device = device, .caches_names = false};
  Ref<FileSystem> made = adopt_ref(new AnonymousFileSystem(std::move(properties), magic, clock));
  return Mount::create({.file_system = std::move(made)});
}

Path AnonymousFileSystem::make(const Ref<Mount>& mount, FileType type, mode_t mode,
                               std::string_view name, const Credentials& owner) {
  auto& self = static_cast<AnonymousFileSystem&>(mount->file_system());
  Attributes attributes;
  attributes.dev = self.device();
  attributes.ino = self.next_ino_.fetch_add(1, std::memory_order_relaxed);
  attributes.type = type;
  attributes.mode = mode;
  attributes.uid = owner.fsuid;
  attributes.gid = owner.fsgid;
  attributes.atime = attributes.mtime = attributes.ctime = self.clock_.realtime();
  std::string shown(name);
  if (const size_t at = shown.find('%'); at != std::string::npos) {
    shown.replace(at, 1, std::to_string(attributes.ino));
  }
  Ref<Inode> inode = make_ref<AnonymousInode>(self, type, attributes);
  return {mount, self.dentries().make_root(std::move(shown), std::move(inode))};
}

Result<void> AnonymousFileSystem::charge_watch() {
  constexpr uint64_t kMaxWatches = 1 << 19;  // as fs.epoll.max_user_watches on a small machine
  if (watches_.fetch_add(1, std::memory_order_relaxed) < kMaxWatches) return {};
  release_watch();
  return Errno::kNoSpc;
}

Result<Statistics> AnonymousFileSystem::statistics() { return Statistics{.magic = magic_}; }

}  // namespace boxrun::vfs
