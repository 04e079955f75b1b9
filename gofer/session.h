// The server's state for one client: its fids, and what was negotiated.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "gofer/channel.h"
#include "gofer/tree.h"
#include "gofer/watches.h"

namespace boxrun::gofer {

// A value of an extended attribute that is read from, or collected until Tclunk.
struct XattrState {
  std::string name;
  std::vector<std::byte> value;
  size_t filled = 0;  // bytes of value that were written
  bool writing = false;
  bool remove = false;
  int flags = 0;  // of setxattr(2)
};

// What a client's number stands for: a file, and perhaps what is open on it. Shared by requests
// that are in flight while another one clunks the number.
class Fid final : public RefCounted {
 public:
  Fid(Ref<Node> file, uint32_t uid) : node(std::move(file)), owner(uid) {}
  ~Fid() override;

  const Ref<Node> node;
  const uint32_t owner;  // n_uname of the attach it descends from

  Mutex mutex{Rank::kGoferFid};
  UniqueFd open GUARDED_BY(mutex);
  std::atomic<size_t>* open_count GUARDED_BY(mutex) = nullptr;  // of the session
  std::optional<XattrState> xattr GUARDED_BY(mutex);
};

struct Limits {
  size_t held;  // O_PATH descriptors that may be closed again (Tree)
  size_t open;  // descriptors of open fids
  size_t fids;
  // Shares of a RLIMIT_NOFILE. EMFILE below 64.
  static Result<Limits> for_descriptors(uint64_t limit);
};

// Whether files are created with the uid and gid that the request names: only where the Gofer has
// the rights to do so (DESIGN, chapter 12a). Otherwise they are its own.
enum class Owners : uint8_t { kOwn, kAsRequested };

class Session {
 public:
  // Without `watches` clients have to ask again and again what has changed.
  Session(std::unique_ptr<Tree> tree, Limits limits, Owners owners,
          std::unique_ptr<Watches> watches = nullptr);

  // Once, before serve(), in a process that is sealed: what Watches::enter() says.
  void before_requests();
  // Answers requests until the peer closes the channel or breaks the protocol; in the second case
  // all channels of the session are shut down. One thread per channel.
  void serve(Channel& channel);

 private:
  friend class Requests;

  Result<Ref<Fid>> find(uint32_t number);
  // EBADF when the number is in use, ENFILE when there are too many.
  Result<void> add(uint32_t number, Ref<Fid> fid);
  // The same, but may take the place of `replaced`.
  Result<void> add_or_replace(uint32_t number, uint32_t replaced, Ref<Fid> fid);
  Result<Ref<Fid>> remove(uint32_t number);
  void reset(Dialect dialect, uint32_t msize);
  // Makes `fid` open with `file`. EMFILE when too many are open.
  Result<void> set_open(Fid& fid, UniqueFd file);
  Result<void> set_xattr(Fid& fid, XattrState xattr);
  Result<void> count_open(Fid& fid) REQUIRES(fid.mutex);
  void shut_down_all();

  const std::unique_ptr<Tree> tree_;
  const std::unique_ptr<Watches> watches_;
  const Limits limits_;
  const Owners owners_;
  std::atomic<Dialect> dialect_{Dialect::kNone};
  std::atomic<uint32_t> msize_{kMaxMessage};
  std::atomic<size_t> open_count_{0};

  Mutex mutex_{Rank::kGoferSession};
  std::unordered_map<uint32_t, Ref<Fid>> fids_ GUARDED_BY(mutex_);
  std::vector<Channel*> channels_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::gofer
