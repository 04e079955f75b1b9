// A Gofer session over a real temporary tree, served by threads, with a client connected to it.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gofer/client.h"
#include "gofer/session.h"

namespace boxrun::gofer {

class TempTree {
 public:
  TempTree() {
    char name[] = "/tmp/boxrun-gofer-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempTree() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path(std::string_view below = "") const {
    return below.empty() ? path_ : path_ + "/" + std::string(below);
  }
  void dir(std::string_view below) const { std::filesystem::create_directories(path(below)); }
  void file(std::string_view below, std::string_view text) const {
    std::ofstream(path(below)) << text;
  }
  void symlink(std::string_view target, std::string_view below) const {
    std::filesystem::create_symlink(target, path(below));
  }
  std::string text(std::string_view below) const {
    std::ifstream in(path(below));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool exists(std::string_view below) const {
    struct stat st;
    return lstat(path(below).c_str(), &st) == 0;
  }

 private:
  std::string path_;
};

struct ServedOptions {
  MountAccess access = MountAccess::kReadWrite;
  std::vector<std::string> hide;
  size_t channels = 1;
  Dialect dialect = Dialect::kBoxrun;
  Limits limits{.held = 1000, .open = 1000, .fids = 10000};
  bool proc = true;
  bool watches = false;  // the test's working directory is another one meanwhile
  Owners owners = Owners::kOwn;
  // Puts another channel around the client's end.
  std::unique_ptr<Channel> (*wrap)(std::unique_ptr<Channel>) = nullptr;
  std::string mount = "m";  // as clients call it
};

// The server's threads end when the client is destroyed.
class Served {
 public:
  explicit Served(const std::string& root, const ServedOptions& options = {}) {
    MountSource source{options.mount, UniqueFd(::open(root.c_str(), O_PATH | O_CLOEXEC)),
                       options.access, root, options.hide};
    std::vector<MountSource> sources;
    sources.push_back(std::move(source));
    ProcFds proc = options.proc ? ProcFds::open_own() : ProcFds();
    std::unique_ptr<Watches> watches = options.watches ? Watches::create() : nullptr;
    session = std::make_unique<Session>(
        Tree::create(std::move(sources), std::move(proc), options.limits.held).value_or(nullptr),
        options.limits, options.owners, std::move(watches));
    session->before_requests();
    std::vector<std::unique_ptr<Channel>> ends;
    for (size_t i = 0; i < options.channels; i++) {
      ChannelPair pair = make_channel_pair().value_or({});
      server_ends_.push_back(std::make_unique<PacketChannel>(std::move(pair.server)));
      threads_.emplace_back([this, end = server_ends_.back().get()] { session->serve(*end); });
      std::unique_ptr<Channel> mine = std::make_unique<PacketChannel>(std::move(pair.client));
      ends.push_back(options.wrap != nullptr ? options.wrap(std::move(mine)) : std::move(mine));
    }
    client = Client::connect(std::move(ends), options.dialect).value_or(nullptr);
    if (client) root_file = client->attach(options.mount, getuid()).value_or({});
  }
  ~Served() {
    root_file = {};
    client.reset();
    stop();
    for (std::thread& thread : threads_) thread.join();
    (void)!fchdir(before_.get());
  }

  // As if the Gofer had died.
  void stop() {
    for (const auto& end : server_ends_) end->shut_down();
  }
  uint32_t root() const { return root_file.fid.number(); }
  // Walks a path with slashes.
  WalkReply walk(std::string_view path, std::optional<uint32_t> open_flags = {}) const {
    std::vector<std::string_view> names;
    while (!path.empty()) {
      const size_t slash = std::min(path.find('/'), path.size());
      names.push_back(path.substr(0, slash));
      path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return client->walk(root(), names, {.open_flags = open_flags})
        .value_or({{}, {Errno::kIo, Rule::kNone}, {}, {}, {}});
  }

  std::unique_ptr<Session> session;
  std::unique_ptr<Client> client;
  RemoteFile root_file;

 private:
  const UniqueFd before_{::open(".", O_PATH | O_CLOEXEC)};
  std::vector<std::unique_ptr<PacketChannel>> server_ends_;
  std::vector<std::thread> threads_;
};

}  // namespace boxrun::gofer
