#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "sentry/net/socket.h"
#include "sentry/net/unix_system.h"
#include "src/base/ref.h"

namespace boxrun::net {

// One piece of a stream, or one packet, on its way, with what accompanies it (struct sk_buff). It
// belongs to the receive queue it is in, and counts against the send buffer of its sender.
class UnixMessage {
 public:
  // Linux counts its bookkeeping, too (SKB_TRUESIZE): so about as many messages fit as there.
  static constexpr size_t kOverhead = 768;

  // Takes `size` bytes of `data`, fewer when not all can be read; EFAULT when none can. EAGAIN when
  // the send buffer of `from` is full, ENOBUFS.
  static Result<std::unique_ptr<UnixMessage>> create(Ref<UnixEndpoint> from, IoBuffers& data,
                                                     size_t size);
  ~UnixMessage();
  UnixMessage(const UnixMessage&) = delete;
  UnixMessage& operator=(const UnixMessage&) = delete;

  UnixEndpoint& from() const { return *from_; }
  std::span<const std::byte> unread() const { return {data_.get() + start_, end_ - start_}; }
  void consume(size_t size) { start_ += size; }

  // SCM_CREDENTIALS; none unless the sender gave some, or one side has SO_PASSCRED.
  std::optional<ucred> credentials;

  // SCM_RIGHTS. ETOOMANYREFS, by `limit`. Takes the files only when it succeeds.
  Result<void> attach(std::vector<Ref<vfs::FileDescription>>& files, uint64_t limit);
  bool has_files() const { return !files_.empty(); }
  const std::vector<Ref<vfs::FileDescription>>& files() const { return files_; }
  std::vector<Ref<vfs::FileDescription>> take_files();

 private:
  UnixMessage(Ref<UnixEndpoint> from, size_t charge);

  const Ref<UnixEndpoint> from_;
  const size_t charge_;
  std::unique_ptr<std::byte[]> data_;
  size_t start_ = 0, end_ = 0;
  std::vector<Ref<vfs::FileDescription>> files_;
};

}  // namespace boxrun::net
