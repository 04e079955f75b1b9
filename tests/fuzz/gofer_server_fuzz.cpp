// What a hostile Sentry sends to the Gofer. The tree that it may change is a temporary directory.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "gofer/protocol_boxrun.h"
#include "gofer/session.h"
#include "tests/fuzz/gofer_memory_channel.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

class Playground {
 public:
  Playground() {
    char name[] = "/tmp/boxrun-fuzz-XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    path_ = name;
  }
  ~Playground() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  // The same small tree again, now and then: inputs make and remove things in it.
  const std::string& tree() {
    if (runs_++ % 500 == 0) {
      for (const auto& entry : std::filesystem::directory_iterator(path_)) {
        std::error_code ignored;
        std::filesystem::remove_all(entry, ignored);
      }
      std::filesystem::create_directories(path_ + "/a/b");
      std::ofstream(path_ + "/a/f") << "text";
      std::error_code ignored;
      std::filesystem::create_symlink("a", path_ + "/l", ignored);
    }
    return path_;
  }

 private:
  std::string path_;
  unsigned runs_ = 0;
};

template <class Message>
void put(std::vector<std::byte>& input, const Message& message) {
  std::byte room[256];
  Encoder out(room);
  encode(out, 0, message);
  const auto size = static_cast<uint16_t>(out.size());
  const Data prefix = std::as_bytes(std::span(&size, 1));
  input.insert(input.end(), prefix.begin(), prefix.end());
  input.insert(input.end(), room, room + size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Playground playground;
  if (size == 0) return 0;
  const std::string& root = playground.tree();
  std::vector<MountSource> sources;
  sources.push_back({"m",
                     UniqueFd(open(root.c_str(), O_PATH | O_CLOEXEC)),
                     (data[0] & 2) != 0 ? MountAccess::kReadOnly : MountAccess::kReadWrite,
                     root,
                     {"**/.env"}});
  const Limits limits{.held = 16, .open = 16, .fids = 64};
  Session session(Tree::create(std::move(sources), ProcFds::open_own(), limits.held).take(), limits,
                  Owners::kOwn);
  std::vector<std::byte> input;
  put(input, Tversion{kMaxMessage, (data[0] & 1) != 0 ? kBatchVersion : kPlainVersion});
  put(input, Tattach{1, kNoFid, "", "m", 0});
  const Data rest = std::as_bytes(std::span(data + 1, size - 1));
  input.insert(input.end(), rest.begin(), rest.end());
  MemoryChannel channel(input);
  session.serve(channel);
  return 0;
}
