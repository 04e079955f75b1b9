// Random operations on an overlay and on a plain tmpfs that holds the same: every call has the same
// outcome, the trees are the same afterwards, and the lower tree of the overlay is untouched. A
// failure shows the seed and all operations up to it.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>

#include <array>
#include <random>
#include <string>

#include "tests/unit/overlay_fixture.h"
#include "tests/unit/test.h"

namespace boxrun::fs::testing {
namespace {

constexpr int kSeeds = 25;
constexpr int kOperations = 400;
constexpr int kComparedEvery = 25;  // operations; names that nobody looked up matter, too
constexpr size_t kHeld = 3;

enum class Kind {
  kCreate,
  kWrite,
  kAppend,
  kTruncate,
  kUnlink,
  kRmdir,
  kMkdir,
  kRename,
  kLink,
  kSymlink,
  kChmod,
  kList,
  kRead,
  kStat,
  kSetXattr,
  kHold,
  kHeldWrite,
  kHeldRead,
  kForget,
  kCount,
};
constexpr const char* kNames[] = {"create", "write",    "append",  "truncate", "unlink",
                                  "rmdir",  "mkdir",    "rename",  "link",     "symlink",
                                  "chmod",  "list",     "read",    "stat",     "setxattr",
                                  "hold",   "write to", "read of", "forget"};
static_assert(std::size(kNames) == static_cast<size_t>(Kind::kCount));

struct Operation {
  Kind kind;
  std::string a, b;
  uint64_t number;  // an offset, a size, a mode, or which held file
  uint32_t flags;   // of rename

  std::string text() const {
    return fmt::format("{} {} {} {} {}", kNames[static_cast<size_t>(kind)], a, b, number, flags);
  }
};

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}
  size_t below(size_t n) { return random_() % n; }
  Operation next() {
    static constexpr uint32_t kRenames[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    Operation o{static_cast<Kind>(below(static_cast<size_t>(Kind::kCount))), path(), path(),
                below(20'000), kRenames[below(std::size(kRenames))]};
    // Forgetting costs thousands of look-ups.
    if (o.kind == Kind::kForget && below(8) != 0) o.kind = Kind::kRename;
    return o;
  }

 private:
  std::string path() {
    std::string text;
    for (size_t i = 0, depth = 1 + below(3); i < depth; i++) {
      text += '/';
      text += static_cast<char>('a' + below(3));
    }
    return text;
  }
  std::mt19937 random_;
};

// One of the two trees, and what is open in it.
class Side {
 public:
  explicit Side(View& view) : view_(view) {}
  // What the caller sees: an errno, or what was read.
  std::string apply(const Operation& o);

 private:
  std::string write_to(Result<Ref<vfs::FileDescription>> file, const Operation& o);
  std::string stat_of(Result<vfs::Attributes> attributes);
  std::string change(const Operation& o);
  std::string use_held(const Operation& o);

  View& view_;
  std::array<Ref<vfs::FileDescription>, kHeld> held_;
};

std::string text_of(Errno error) { return std::string(errno_name(error)); }
std::string text_of(Result<std::string> result) {
  return result.ok() ? std::move(result).take() : text_of(result.error());
}

std::string Side::write_to(Result<Ref<vfs::FileDescription>> file, const Operation& o) {
  if (!file.ok()) return text_of(file.error());
  const std::string text = "[" + o.text() + "]";
  IoBuffers from(as_bytes_of(text.data(), text.size()));
  const vfs::WriteOptions options{.append = o.kind == Kind::kAppend};
  const auto written = (*file)->pwrite(from, static_cast<int64_t>(o.number), options);
  return written.ok() ? std::to_string(*written) : text_of(written.error());
}

std::string Side::stat_of(Result<vfs::Attributes> attributes) {
  if (!attributes.ok()) return text_of(attributes.error());
  const vfs::Attributes& a = *attributes;
  const bool directory = a.type == vfs::FileType::kDirectory;
  return fmt::format("{:o} links {} size {} mtime {} ctime {}", a.st_mode(), a.nlink,
                     directory ? 0 : a.size, a.mtime, a.ctime);
}

std::string Side::change(const Operation& o) {
  switch (o.kind) {
    case Kind::kTruncate:
      return text_of(view_.truncate(o.a, o.number));
    case Kind::kUnlink:
      return text_of(view_.unlink(o.a));
    case Kind::kRmdir:
      return text_of(view_.rmdir(o.a));
    case Kind::kMkdir:
      return text_of(view_.mkdir(o.a, 0700 | (o.number & 077)));
    case Kind::kRename:
      return text_of(view_.rename(o.a, o.b, o.flags));
    case Kind::kLink:
      return text_of(view_.link(o.a, o.b));
    case Kind::kSymlink:
      return text_of(view_.symlink(o.b, o.a));
    case Kind::kChmod:
      return text_of(view_.chmod(o.a, 0600 | (o.number & 0177)));
    default: {
      const auto place = view_.place(o.a);
      if (!place.ok()) return text_of(place.error());
      return text_of(vfs::set_xattr(view_.caller, *place, "user.test", std::to_string(o.number),
                                    vfs::XattrCreate::kAny)
                         .error());
    }
  }
}

std::string Side::use_held(const Operation& o) {
  Ref<vfs::FileDescription>& held = held_[o.number % kHeld];
  if (o.kind == Kind::kHold) {
    auto file = view_.open(o.a, O_RDWR);
    if (!file.ok()) return text_of(file.error());
    held = std::move(file).take();
  }
  if (!held) return "nothing held";
  if (o.kind == Kind::kHeldWrite) return write_to(held, o);
  std::string text(32'768, '\0');
  IoBuffers to(std::as_writable_bytes(std::span(text)));
  text.resize(held->pread(to, 0).take());
  return text + stat_of(held->attributes());
}

std::string Side::apply(const Operation& o) {
  switch (o.kind) {
    case Kind::kCreate:
      return text_of(view_.open(o.a, O_WRONLY | O_CREAT | O_EXCL, 0666).error());
    case Kind::kWrite:
    case Kind::kAppend:
      return write_to(view_.open(o.a, O_WRONLY | O_CREAT), o);
    case Kind::kRead:
      return text_of(view_.read_file(o.a));
    case Kind::kStat:
      return stat_of(view_.stat(o.a));
    case Kind::kList: {
      const auto names = view_.list(o.a);
      return names.ok() ? fmt::format("{}", fmt::join(*names, " ")) : text_of(names.error());
    }
    case Kind::kHold:
    case Kind::kHeldWrite:
    case Kind::kHeldRead:
      return use_held(o);
    case Kind::kForget:
      forget_names(view_);
      return "";
    default:
      return change(o);
  }
}

// The first line in which two trees differ.
std::string difference(const std::string& got, const std::string& expected) {
  const auto at = std::ranges::mismatch(got, expected).in1 - got.begin();
  const size_t begin = got.rfind('\n', static_cast<size_t>(at)) + 1;
  const auto line = [&](const std::string& text) {
    return begin < text.size() ? text.substr(begin, text.find('\n', begin) - begin) : "nothing";
  };
  return fmt::format("there is\n{}\nbut should be\n{}", line(got), line(expected));
}

void fill(Tree& tree) {
  for (const char* directory : {"/a", "/a/a", "/a/b", "/b", "/b/c"}) {
    REQUIRE(tree.mkdir(directory) == Errno::kOk);
  }
  for (const std::string file : {"/a/a/a", "/a/a/b", "/a/c", "/b/a", "/b/c/a", "/c"}) {
    REQUIRE(tree.write_file(file, "lower " + file) == Errno::kOk);
  }
  REQUIRE(tree.link("/a/a/a", "/b/b") == Errno::kOk);
  REQUIRE(tree.link("/c", "/b/c/b") == Errno::kOk);
  REQUIRE(tree.symlink("a/a", "/a/b/c") == Errno::kOk);
  REQUIRE(tree.truncate("/a/c", 10'000) == Errno::kOk);
  REQUIRE(tree.chmod("/b/a", 04755) == Errno::kOk);
}

void run(unsigned seed) {
  Tree plain;
  OverlayTree layered;
  fill(plain);
  fill(layered.lower);
  const std::string lower_before = describe(layered.lower);
  Side model(plain);
  Side overlay(layered.view);
  Generator generator(seed);
  std::string log = fmt::format("seed {}\n", seed);
  for (int i = 0; i < kOperations; i++) {
    plain.clock.now = layered.lower.clock.now = (2'000 + i) * kSecond;
    const Operation operation = generator.next();
    const std::string expected = model.apply(operation);
    const std::string got = overlay.apply(operation);
    log += fmt::format("{}: {}\n", operation.text(), got);
    if (got != expected) FAIL(log << "but expected: " << expected);
    if (i % kComparedEvery != kComparedEvery - 1) continue;
    const std::string tree = describe(layered.view);
    if (const std::string wanted = describe(plain); tree != wanted) {
      FAIL(log << difference(tree, wanted));
    }
  }
  if (describe(layered.lower) != lower_before) FAIL(log << "changed the lower tree");
}

TEST_CASE("overlay model: random operations do what they do to a plain tree") {
  for (unsigned seed = 1; seed <= kSeeds; seed++) run(seed);
}

}  // namespace
}  // namespace boxrun::fs::testing
