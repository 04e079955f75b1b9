// Hostile paths and openat2 flags, over a tree of tmpfs mounts that the input changes on the way:
// whatever a walk ends at obeys the RESOLVE_ flags and the root, and has a name that leads back.
// The input is a list of operations: one byte which, then what it needs (strings: length, bytes).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <list>
#include <string>
#include <vector>

#include "src/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/unit/vfs_fixture.h"

using namespace boxrun;
using namespace boxrun::vfs;

namespace {

constexpr int kMaxOperations = 64;

class WalkFuzz {
 public:
  WalkFuzz() {
    for (const char* directory : {"/a", "/a/b", "/a/b/c", "/m", "/a/again", "/jail"}) {
      CHECK(tree_.mkdir(directory) == Errno::kOk);
    }
    for (const char* file : {"/f", "/a/b/f"}) {
      CHECK(tree_.write_file(file, "text") == Errno::kOk);
    }
    constexpr std::pair<const char*, const char*> kLinks[] = {
        {"b", "/a/rel"},         {"/a/b", "/a/abs"},      {"loop2", "/loop1"},
        {"loop1", "/loop2"},     {"../../..", "/a/b/up"}, {"/", "/a/root"},
        {"none/x", "/dangling"}, {"self/self", "/a/self"}};
    for (const auto& [target, path] : kLinks) CHECK(tree_.symlink(target, path) == Errno::kOk);
    mount("/m");
    mount("/a/again");
    CHECK(tree_.mkdir("/m/in") == Errno::kOk && tree_.symlink("/a", "/m/in/out") == Errno::kOk);
    starts_ = {tree_.mounts->root(), tree_.place("/a").take(), tree_.place("/m/in").take(),
               tree_.place("/jail").take()};
  }

  void run(fuzz::Input& input) {
    for (int i = 0; i < kMaxOperations && !input.empty(); i++) step(input);
    for (const Path& start : starts_) check_name(start);
  }

 private:
  void mount(const char* where) {
    CHECK(tree_.mounts->attach(Mount::create({.file_system = mounted_}), tree_.place(where).take())
              .ok());
  }

  At at(fuzz::Input& input) {
    Path& start = starts_[input.byte() % starts_.size()];
    texts_.emplace_back(input.string());
    return {start, texts_.back()};
  }

  void step(fuzz::Input& input);
  void walk_once(fuzz::Input& input);
  void open_once(fuzz::Input& input);
  void check_place(const Path& start, const Path& place, uint64_t resolve);
  void check_name(const Path& place);

  testing::Tree tree_;
  const Ref<fs::TmpFs> mounted_ = tree_.make(8);
  std::vector<Path> starts_;  // directories that walks begin at; a working one may be removed
  std::list<std::string> texts_;
};

void WalkFuzz::walk_once(fuzz::Input& input) {
  WalkOptions options;
  const uint8_t how = input.byte();
  options.follow = (how & 1) != 0 ? Follow::kYes : Follow::kNo;
  options.allow_empty = (how & 2) != 0;
  options.must_be_directory = (how & 4) != 0;
  options.resolve = input.byte() & (RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                    RESOLVE_BENEATH | RESOLVE_IN_ROOT);
  const At from = at(input);
  if ((how & 8) != 0) {
    const auto last = walk_to_last(tree_.caller, from.start, from.path, options);
    if (!last.ok()) return;
    check_place(from.start, last->directory, options.resolve);
    CHECK(last->directory.dentry->inode()->is_directory() || last->kind == LastName::Kind::kRoot);
    CHECK(last->name.find('/') == std::string::npos && last->name.size() <= kMaxName);
    return;
  }
  const auto place = walk(tree_.caller, from.start, from.path, options);
  if (!place.ok()) return;
  check_place(from.start, *place, options.resolve);
  if (options.must_be_directory && !from.path.empty()) {
    CHECK(place->dentry->inode()->is_directory());
  }
}

void WalkFuzz::check_place(const Path& start, const Path& place, uint64_t resolve) {
  CHECK(place && place.dentry->inode());
  if ((resolve & RESOLVE_NO_XDEV) != 0) CHECK(place.mount == start.mount);
  // What is no longer in the tree is below nothing.
  if (place.dentry->unhashed() || start.dentry->unhashed()) return;
  bool below = false;
  const bool scoped = (resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0;
  (void)path_of(*tree_.mounts, scoped ? start : tree_.fs_context->root(), place, &below);
  CHECK(below || !scoped);
  check_name(place);
}

// The name of a place leads back to it.
void WalkFuzz::check_name(const Path& place) {
  bool reachable = false;
  const std::string name = path_of(*tree_.mounts, tree_.fs_context->root(), place, &reachable);
  if (!reachable || place.dentry->unhashed() || name.size() >= kMaxPath) return;
  CHECK(name.starts_with('/'));
  Caller root{*tree_.fs_context, testing::root_user(), *tree_.mounts, tree_.special_files};
  const auto again = walk(root, tree_.mounts->root(), name, {.follow = Follow::kNo});
  CHECK(again.ok() && *again == tree_.mounts->cross(place));
}

void WalkFuzz::open_once(fuzz::Input& input) {
  OpenHow how{static_cast<int>(input.take<uint32_t>()), input.take<uint16_t>(), input.byte()};
  const At where = at(input);
  auto checked = check_open_flags(how, (how.mode & 1) != 0);
  if (!checked.ok()) return;
  auto file = open_at(tree_.caller, where, *checked);
  if (!file.ok()) return;
  // A file of O_TMPFILE has no place in the tree, only a name to show.
  const bool unnamed = (checked->flags & O_TMPFILE) == O_TMPFILE;
  if (!unnamed) check_place(where.start, (*file)->path(), checked->resolve);
  testing::NameSink names(16);
  (void)(*file)->read_directory(names);
}

void WalkFuzz::step(fuzz::Input& input) {
  static constexpr uint32_t kRenames[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT};
  Caller& caller = tree_.caller;
  switch (input.byte() % 14) {
    case 0:
      return (void)make_directory(caller, at(input), 0777);
    case 1: {
      const At link = at(input);
      return (void)make_symlink(caller, link, input.string());
    }
    case 2: {
      const At from = at(input);
      return (void)rename_at(caller, from, at(input), input.one_of(kRenames));
    }
    case 3:
      return (void)unlink_file(caller, at(input));
    case 4:
      return (void)remove_directory(caller, at(input));
    case 5: {
      const At from = at(input);
      return (void)link_at(caller, from, at(input), input.byte() != 0 ? AT_SYMLINK_FOLLOW : 0);
    }
    case 6:
      return open_once(input);
    case 7: {  // a directory to start from
      auto place = find(caller, at(input), 0);
      if (!place.ok() || !place->dentry->inode()->is_directory()) return;
      starts_[input.byte() % starts_.size()] = std::move(*place);
      return;
    }
    case 8:
      return (void)read_link_at(caller, at(input));
    case 9: {
      const auto place = find(caller, at(input), AT_SYMLINK_NOFOLLOW);
      if (place.ok()) (void)change_mode(caller, *place, input.take<uint16_t>() & 07777);
      return;
    }
    case 10:
      return tree_.become(input.byte() % 2 == 0 ? testing::root_user() : testing::user(1000));
    default:
      return walk_once(input);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  WalkFuzz().run(input);
  return 0;
}
