// The host changes its directories while a client works in them: directories become symbolic links
// to outside and back, parents of hidden files get other names. Whatever the client wins, it is
// never anything outside the mount or hidden. Descriptors are so few that most names are walked
// again and again.
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "tests/unit/gofer_fixture.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

constexpr int kRounds = 1500;
constexpr std::chrono::seconds kPatience{20};
constexpr Limits kFewDescriptors{.held = 3, .open = 16, .fids = 1000};

// Repeats `change` on a thread of the host until it goes out of scope.
class Host {
 public:
  explicit Host(std::function<void()> change)
      : thread_([this, change = std::move(change)] {
          while (!stop_) {
            change();
            changes_++;
          }
        }) {}
  ~Host() {
    stop_ = true;
    thread_.join();
  }
  int changes() const { return changes_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> changes_ = 0;
  std::thread thread_;
};

// How often something went well, and how often not: a race that one side always wins is none.
struct Tally {
  int well = 0, not_well = 0;
  void count(bool went_well) { (went_well ? well : not_well)++; }
};

// Makes attempts while the host changes things: kRounds, and then more, however the threads are
// scheduled, until each side has won.
void race(std::function<void()> change, const std::function<void(int, Tally&)>& attempt) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  Tally tally;
  const Host host(std::move(change));
  const auto decided = [&] { return host.changes() > 10 && tally.well > 0 && tally.not_well > 0; };
  for (int i = 0; i < kRounds || (!decided() && std::chrono::steady_clock::now() < deadline); i++) {
    attempt(i, tally);
  }
  CHECK(host.changes() > 10);
  CHECK(tally.well > 0);
  CHECK(tally.not_well > 0);
}

void move(const TempTree& tree, std::string_view from, std::string_view to) {
  if (::rename(tree.path(from).c_str(), tree.path(to).c_str()) != 0) abort();
}

// Names, kinds, sizes, times and contents of everything below a directory.
std::map<std::string, std::string> everything_in(const std::string& root) {
  std::map<std::string, std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    struct stat st {};
    CHECK(lstat(entry.path().c_str(), &st) == 0);
    std::string& text = found[entry.path()];
    text = std::to_string(st.st_mode) + " " + std::to_string(st.st_nlink) + " " +
           std::to_string(st.st_mtim.tv_sec) + "." + std::to_string(st.st_mtim.tv_nsec);
    if (!S_ISREG(st.st_mode)) continue;
    std::ifstream in(entry.path());
    text.append(std::istreambuf_iterator<char>(in), {});
  }
  return found;
}

std::string text_of(const UniqueFd& file) {
  char text[16] = {};
  return pread(file.get(), text, sizeof text - 1, 0) < 0 ? "unreadable" : text;
}

// A mount "in" with a directory d, and beside it "out", which has the same names.
struct Neighbours {
  Neighbours() {
    for (const std::string top : {"in/d", "out"}) {
      tree.dir(top + "/sub");
      tree.dir(top + "/empty");
      tree.file(top + "/f", top == "out" ? "outside" : "inside");
      tree.file(top + "/sub/f", top == "out" ? "outside" : "inside");
      tree.file(top + "/victim", top);
    }
    tree.symlink(tree.path("out"), "in/link");
    before = everything_in(tree.path("out"));
  }
  // Puts the link in the directory's place, and the directory back.
  void swap() const {
    move(tree, "in/d", "in/parked");
    move(tree, "in/link", "in/d");
    move(tree, "in/d", "in/link");
    move(tree, "in/parked", "in/d");
  }
  ~Neighbours() { CHECK(everything_in(tree.path("out")) == before); }

  TempTree tree;
  std::map<std::string, std::string> before;
};

// One thing of each kind that a client can do to names in the directory `directory`.
void change_names(Client& client, uint32_t directory, int round) {
  const std::string name = "new" + std::to_string(round % 7);
  switch (round % 8) {
    case 0:
      (void)client.create(directory, name, O_RDWR, 0600, {});
      break;
    case 1:
      (void)client.mkdir(directory, name, 0700, {});
      break;
    case 2:
      (void)client.symlink(directory, name, "/etc", {});
      break;
    case 3:
      (void)client.unlink(directory, "victim", 0);
      (void)client.create(directory, "victim", O_RDWR, 0600, {});
      break;
    case 4:
      (void)client.unlink(directory, "empty", AT_REMOVEDIR);
      (void)client.mkdir(directory, "empty", 0700, {});
      break;
    case 5:
      (void)client.rename(directory, "sub", directory, "sub2", 0);
      (void)client.rename(directory, "sub2", directory, "sub", 0);
      break;
    case 6:
      (void)client.mknod(directory, name, S_IFIFO | 0600, 0, {});
      break;
    default:
      (void)client.unlink(directory, name, round % 16 < 8 ? 0 : AT_REMOVEDIR);
      break;
  }
}

// The same for the file `file` in `directory`.
void change_file(Client& client, uint32_t directory, uint32_t file, int round) {
  switch (round % 4) {
    case 0:
      (void)client.set_attr(file, {.valid = kSetMode, .mode = 0640});
      break;
    case 1:
      (void)client.set_attr(file, {.valid = kSetMtime});
      break;
    case 2: {
      const Result<RemoteOpen> opened = client.open(file, O_RDWR);
      if (opened.ok()) CHECK(text_of(opened->file) == "inside");
      break;
    }
    default:
      (void)client.link(directory, file, "linked");
      (void)client.unlink(directory, "linked", 0);
      break;
  }
}

uint32_t last(const WalkReply& reply) { return reply.steps.back().fid.number(); }

}  // namespace

TEST_CASE("race: a directory that becomes a symbolic link leads nowhere outside") {
  Neighbours files;
  Served served(files.tree.path("in"), {.limits = kFewDescriptors});
  race([&] { files.swap(); },
       [&](int i, Tally& opens) {
         const WalkReply file = served.walk(i % 2 == 0 ? "d/f" : "d/sub/f", O_RDONLY);
         opens.count(file.opened.file.get() >= 0);
         if (file.opened.file) CHECK(text_of(file.opened.file) == "inside");
       });
}

TEST_CASE("race: names are made, renamed and removed in the mount only") {
  Neighbours files;
  Served served(files.tree.path("in"), {.limits = kFewDescriptors});
  race([&] { files.swap(); },
       [&](int i, Tally& walks) {
         const WalkReply directory = served.walk("d");
         // A symbolic link is found, too, but is no directory.
         if (!directory.steps.empty()) change_names(*served.client, last(directory), i);
         const WalkReply file = served.walk("d/f");
         walks.count(file.steps.size() == 2);
         if (file.steps.size() != 2) return;
         change_file(*served.client, file.steps[0].fid.number(), last(file), i);
       });
}

TEST_CASE("race: a fid that lost its descriptor finds its own file again, or none") {
  Neighbours files;
  files.tree.dir("in/d/double");
  files.tree.file("in/d/double/f", "another");
  Served served(files.tree.path("in"), {.limits = kFewDescriptors});
  const WalkReply directory = served.walk("d");
  const WalkReply file = served.walk("d/sub/f");
  REQUIRE(file.steps.size() == 3);
  const auto change = [&] {
    files.swap();
    move(files.tree, "in/d/sub", "in/parked");
    move(files.tree, "in/d/double", "in/d/sub");
    move(files.tree, "in/d/sub", "in/d/double");
    move(files.tree, "in/parked", "in/d/sub");
  };
  race(change, [&](int, Tally& opens) {
    // Takes the descriptors away.
    for (const char* other : {"d/double/f", "d/victim", "d/empty", "d/f"}) {
      (void)served.walk(other);
    }
    const Result<RemoteOpen> opened = served.client->open(last(file), O_RDONLY);
    opens.count(opened.ok());
    if (opened.ok()) CHECK(text_of(opened->file) == "inside");
    (void)served.client->create(last(directory), "new", O_RDWR, 0600, {});
    (void)served.client->unlink(last(directory), "new", 0);
  });
}

TEST_CASE("race: hidden files stay hidden while their parents change names") {
  TempTree tree;
  tree.dir("home/.ssh");
  tree.dir("other/.ssh");
  for (const char* secret : {"home/.ssh/id", "home/secret", "other/.ssh/id"}) {
    tree.file(secret, "secret");
  }
  tree.file("home/f", "seen");
  Served served(tree.path(),
                {.hide = {"**/.ssh", tree.path("home/secret")}, .limits = kFewDescriptors});
  const WalkReply home = served.walk("home");
  REQUIRE(home.steps.size() == 1);
  const std::string_view secret[] = {"secret"};
  const auto change = [&] {
    move(tree, "home", "house");
    move(tree, "other", "home");
    move(tree, "home", "other");
    move(tree, "house", "home");
  };
  race(change, [&](int, Tally& seen) {
    bool renamed = false;
    for (const std::string_view parent : {"home", "house", "other"}) {
      const WalkReply hidden = served.walk(std::string(parent) + "/.ssh/id", O_RDONLY);
      if (parent == "house") renamed = !hidden.steps.empty();
      CHECK(!hidden.opened.file);
      CHECK(hidden.steps.size() <= 1);
    }
    // What the client holds was walked by the name that hides.
    const auto reply = served.client->walk(last(home), secret, {.open_flags = O_RDONLY});
    CHECK((reply.ok() && reply->steps.empty()));
    const auto listed = served.client->list(last(home), Listed::kAttributes);
    seen.count(listed.ok() && renamed);
    if (!listed.ok()) return;
    for (const DirectoryEntry& entry : listed->page.entries) {
      const bool hides = entry.name == ".ssh" || entry.name == "secret";
      CHECK(entry.hidden == hides);
    }
  });
}
