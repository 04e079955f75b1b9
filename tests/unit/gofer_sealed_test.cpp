// The Gofer as it runs: sealed.
#include <sys/wait.h>

#include "gofer/gofer_main.h"
#include "src/host/caps.h"
#include "src/host/seal.h"
#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

TEST_CASE("the sealed Gofer does everything its table allows, and ends with its client") {
  TempTree tree;
  tree.dir("d");
  tree.file("d/f", "text");
  tree.symlink("d", "l");
  GoferSpec spec;
  spec.mounts.push_back({"0",
                         UniqueFd(open(tree.path().c_str(), O_PATH | O_CLOEXEC)),
                         MountAccess::kReadWrite,
                         tree.path(),
                         {}});
  if (getuid() == 0) spec.owners = Owners::kAsRequested;
  std::vector<std::unique_ptr<Channel>> ends;
  for (int i = 0; i < 3; i++) {
    ChannelPair pair = make_channel_pair().take();
    spec.channels.push_back(std::move(pair.server));
    ends.push_back(std::make_unique<PacketChannel>(std::move(pair.client)));
  }
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ends.clear();
    MaybeFailure failure;
    std::unique_ptr<Gofer> gofer = Gofer::prepare(std::move(spec), failure);
    if (!gofer) _exit(1);
    const std::vector<host::FilterRow> rows = gofer->filter_rows();
    host::LayerSet layers;
    if (host::drop_rights({.kind = host::ProcessKind::kGofer,
                           .capabilities = host::gofer_capabilities(),
                           .filter_rows = rows},
                          layers)) {
      _exit(2);
    }
    gofer->serve();
    _exit(0);
  }
  spec.channels.clear();
  {
    std::unique_ptr<Client> client = Client::connect(std::move(ends)).value_or(nullptr);
    REQUIRE(client);
    RemoteFile root = client->attach("0", kNoUid).take();
    const uint32_t at = root.fid.number();
    const std::string_view names[] = {"d", "f"};
    WalkReply f = client->walk(at, names, {.open_flags = O_RDWR}).take();
    const uint32_t file = f.steps.back().fid.number();
    CHECK(f.opened.file);
    const std::string_view link[] = {"l"};
    CHECK(client->walk(at, link).take().steps[0].target == "d");
    CHECK(client->list(at, Listed::kAttributes).take().page.entries.size() == 2);
    CHECK(client->mkdir(at, "new", 0755, {getuid(), getgid()}).ok());
    CHECK(client->create(at, "file", O_RDWR, 0644, {getuid(), getgid()}).ok());
    CHECK(client->symlink(at, "sym", "x", {getuid(), getgid()}).ok());
    CHECK(client->mknod(at, "fifo", S_IFIFO | 0600, 0, {getuid(), getgid()}).ok());
    CHECK(client->link(at, file, "hard").ok());
    CHECK(client->rename(at, "hard", at, "harder", 0).ok());
    CHECK(client->rename(at, "harder", at, "file", RENAME_EXCHANGE).ok());
    CHECK(client->unlink(at, "fifo", 0).ok());
    CHECK(client->unlink(at, "new", AT_REMOVEDIR).ok());
    CHECK(client
              ->set_attr(file, {.valid = kSetMode | kSetSize | kSetMtime | kSetUid,
                                .mode = 0600,
                                .uid = getuid(),
                                .size = 2})
              .ok());
    CHECK(client->statfs(at).ok());
    const Result<void> xattr = client->set_xattr(file, "user.a", std::as_bytes(std::span("v")), 0);
    CHECK((xattr.ok() || xattr.error() == Errno::kOpNotSupp));
    (void)client->get_xattr(file, "user.a");
    (void)client->get_xattr(file, "");
    (void)client->remove_xattr(file, "user.a");
    (void)client->create(at, "", O_TMPFILE | O_RDWR, 0600, {getuid(), getgid()});
    CHECK_FALSE(client->dead());
    root = {};
    f = {};
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
