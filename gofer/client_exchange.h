// One round trip: requests in, replies out.
#pragma once
#include <array>
#include <vector>

#include "gofer/client.h"

namespace boxrun::gofer {

struct Client::Line {
  std::unique_ptr<Channel> channel;
  std::array<std::byte, kMaxMessage> out, in;
  FdList fds;
  uint16_t cpu = kNoCpu;  // as its last packet said; where the thread that serves it probably is
};

// Builds a chain of dependent requests, runs it, and hands out the replies in order. It owns one of
// the client's channels from start to end, so only one may live in a thread, and no lock is held.
// Views in replies point into the channel's buffer and end with this object.
class Exchange {
 public:
  explicit Exchange(Client& client);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange();

  template <class Request>
  void add(const Request& request) {
    if (encode(out_, tag_of_next(), request)) count_++;
  }
  // Sends everything as one packet (boxrun) or one after the other until the first error (plain).
  // EIO when the peer is dead, EMSGSIZE when the requests do not fit a packet.
  Result<void> run();
  // The reply to the next request, or its error. After the first error: ECANCELED.
  template <class Reply>
  Result<Reply> next();
  // The next donated descriptor; ENFILE when this process may have no more of them.
  Result<UniqueFd> take_descriptor();
  // The same; EIO unless it is a regular file's.
  Result<UniqueFd> take_file();
  // About the last error.
  ServerError failure() const { return failure_; }
  void report(ServerError* failure) const {
    if (failure != nullptr) *failure = failure_;
  }
  // The peer broke the protocol: its end. Returns EIO.
  Errno broken();

 private:
  uint16_t tag_of_next() const;
  Result<void> run_batch();
  Result<void> run_single();
  Result<void> clunk_first();
  // Sends one packet and waits for the answer, which goes to line_->in behind `kept` bytes.
  Result<Frame> round_trip(Data packet, uint16_t tag, size_t kept);
  Result<Frame> next_reply(Type expected);

  Client& client_;
  Client::Line* line_ = nullptr;
  std::vector<uint32_t> clunks_;  // sent in front of the requests
  Encoder out_;
  uint16_t count_ = 0;
  const uint16_t cpu_;
  Decoder replies_{Data()};
  ServerError failure_;
};

template <class Reply>
Result<Reply> Exchange::next() {
  const Frame frame = TRY(next_reply(Reply::kType));
  const Result<Reply> reply = decode<Reply>(frame);
  if (!reply.ok()) return broken();
  return Result<Reply>(Reply(*reply));
}

}  // namespace boxrun::gofer
