// /proc over the fake platform: what is in it, whose it is, and what happens when a process goes.
#include "sentry/kernel/proc_fs.h"

#include <linux/magic.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>

#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/file_description.h"
#include "tests/unit/kernel_harness.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::kernel;
using namespace boxrun::test;

namespace {

// A proc of `k`, walked by inode: paths are the walker's business.
class Proc {
 public:
  explicit Proc(TestKernel& k)
      : fs_(ProcFs::create(*k.kernel, 9)),
        root_cred_(Credentials::create(0, 0, {}, CapSet::all())) {}

  Result<Ref<vfs::Inode>> find(std::string_view path) {
    Ref<vfs::Inode> at = fs_->root();
    while (!path.empty()) {
      const size_t end = std::min(path.find('/'), path.size());
      at = TRY(at->lookup(path.substr(0, end)));
      path.remove_prefix(std::min(end + 1, path.size()));
    }
    return at;
  }
  Result<Ref<vfs::FileDescription>> open(std::string_view path, int flags = O_RDONLY) {
    return TRY(find(path))->open({flags, {}, root_cred_});
  }
  std::string text(std::string_view path) {
    auto file = open(path);
    if (!file.ok()) return "cannot open";
    std::string out(65536, '\0');
    IoBuffers to(std::as_writable_bytes(std::span(out)));
    const auto size = (*file)->read(to);
    if (!size.ok()) return "cannot read";
    out.resize(*size);
    return out;
  }
  Result<size_t> write(std::string_view path, std::string_view text) {
    auto file = TRY(open(path, O_WRONLY));
    IoBuffers from(std::as_bytes(std::span(text)));
    return file->write(from, {});
  }
  ProcFs& fs() { return *fs_; }

 private:
  Ref<ProcFs> fs_;
  Ref<Credentials> root_cred_;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("the system's files speak of the sandbox") {
  TestKernel k;
  Proc proc(k);
  CHECK(proc.fs().statistics()->magic == PROC_SUPER_MAGIC);
  CHECK(proc.text("sys/kernel/ostype") == "Linux\n");
  CHECK(proc.text("sys/kernel/hostname") == k.kernel->hostname() + "\n");
  const std::string total = std::to_string(k.memory->limit() / 1024) + " kB\n";
  const std::string first_line = proc.text("meminfo").substr(0, 28);
  CHECK(has(first_line, total));
  const uint64_t free = (k.memory->limit() - k.memory->used()) / kPageSize;
  CHECK(proc.text("vmstat").starts_with("nr_free_pages " + std::to_string(free) + "\n"));
  CHECK(proc.text("sys/kernel/random/boot_id") == proc.text("sys/kernel/random/boot_id"));
  CHECK(proc.text("sys/kernel/random/uuid") != proc.text("sys/kernel/random/uuid"));
  CHECK(proc.text("sys/kernel/random/uuid").size() == 37);
  CHECK(has(proc.text("cpuinfo"), "processor\t: 0\n"));
  CHECK(proc.find("nothing").error() == Errno::kNoEnt);
  CHECK(proc.find("01").error() == Errno::kNoEnt);
  CHECK(proc.find("-1").error() == Errno::kNoEnt);
}

TEST_CASE("self and thread-self are the reader's") {
  TestKernel k;
  Proc proc(k);
  CHECK((*proc.find("self"))->read_link().error() == Errno::kNoEnt);  // not a task
  const int status = k.run([&](FakeGuest& guest) {
    return static_cast<int>(call(guest, [&](Task& task) -> Result<uint64_t> {
      const std::string own = TRY(TRY(proc.find("self"))->read_link());
      const std::string thread = TRY(TRY(proc.find("thread-self"))->read_link());
      if (own != std::to_string(task.tgid())) return uint64_t{1};
      return thread == own + "/task/" + own ? uint64_t{0} : uint64_t{2};
    }));
  });
  CHECK(status == 0);
}

TEST_CASE("files of a process follow it, and are gone with it") {
  TestKernel k;
  Proc proc(k);
  const Ref<ThreadGroup> process = k.start([](FakeGuest& guest) {
    pause(guest);
    return 0;
  });
  const std::string base = std::to_string(process->tgid);
  REQUIRE(eventually([&] { return has(proc.text(base + "/status"), "State:\tS (sleeping)"); }));
  const std::string stat = proc.text(base + "/stat");
  CHECK(stat.substr(0, base.size() + 2) == base + " (");
  CHECK(std::count(stat.begin() + static_cast<ptrdiff_t>(stat.rfind(')')), stat.end(), ' ') == 50);
  CHECK(has(proc.text(base + "/maps"), "rw-p"));
  CHECK(proc.text(base + "/task/" + base + "/comm") == proc.text(base + "/comm"));
  CHECK(proc.write(base + "/comm", "x").error() == Errno::kInval);  // not by others
  CHECK(proc.write(base + "/oom_score_adj", "1001").error() == Errno::kInval);
  CHECK(proc.write(base + "/oom_score_adj", "500\n").ok());
  CHECK(proc.text(base + "/oom_score_adj") == "500\n");
  CHECK((*proc.find(base + "/environ"))->attributes()->uid == 1000);
  process->dumpable = ThreadGroup::Dumpable::kNo;
  CHECK((*proc.find(base + "/environ"))->attributes()->uid == 0);
  CHECK((*proc.find(base))->attributes()->uid == 1000);

  const Ref<vfs::Inode> status = *proc.find(base + "/status");
  const Ref<vfs::Inode> root = *proc.find("");
  const Ref<vfs::Inode> directory = *proc.find(base);
  CHECK(root->entry_is_current({base, directory.get()}));
  process->exit_all(SIGKILL);
  k.wait(*process);
  REQUIRE(eventually([&] { return !proc.find(base).ok(); }));
  CHECK(!root->entry_is_current({base, directory.get()}));
  const auto late = status->open({O_RDONLY, {}, Credentials::create(0, 0, {}, CapSet::all())});
  REQUIRE(late.ok());
  std::array<std::byte, 16> buffer;
  IoBuffers to{std::span<std::byte>(buffer)};
  CHECK((*late)->read(to).error() == Errno::kSrch);
}
