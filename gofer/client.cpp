// The connection: lines, fid numbers, and the end of it all.
#include "gofer/client.h"

#include <algorithm>

#include "gofer/client_exchange.h"

namespace boxrun::gofer {

RemoteFid::~RemoteFid() {
  if (client_ != nullptr) client_->clunk_later(number_);
}

Client::Client(std::vector<std::unique_ptr<Channel>> channels) {
  const Lock lock(mutex_);
  for (std::unique_ptr<Channel>& channel : channels) {
    // Not cleared: pages of buffers that are never used stay untouched.
    lines_.push_back(std::make_unique_for_overwrite<Line>());
    lines_.back()->channel = std::move(channel);
  }
  // The first one is taken first: an idle client touches the buffers of one line only.
  for (auto line = lines_.rbegin(); line != lines_.rend(); ++line)
    free_lines_.push_back(line->get());
}

Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::connect(std::vector<std::unique_ptr<Channel>> channels,
                                                Dialect wanted) {
  if (channels.empty()) return Errno::kInval;
  std::unique_ptr<Client> client(new Client(std::move(channels)));
  const Result<void> negotiated = client->negotiate(wanted);
  if (negotiated.ok()) return client;
  if (wanted == Dialect::kPlain || client->dead()) return negotiated.error();
  // version(5) has a server leave an unknown suffix away; diod answers with an error instead.
  TRY(client->negotiate(Dialect::kPlain));
  return client;
}

Result<void> Client::negotiate(Dialect wanted) {
  Exchange exchange(*this);
  exchange.add(Tversion{kMaxMessage, wanted == Dialect::kBoxrun ? kBatchVersion : kPlainVersion});
  TRY(exchange.run());
  const Rversion reply = TRY(exchange.next<Rversion>());
  if (reply.msize < kMinMessage || reply.msize > kMaxMessage) return Errno::kProto;
  if (reply.version == kBatchVersion && wanted == Dialect::kBoxrun) {
    dialect_ = Dialect::kBoxrun;
  } else if (reply.version == kPlainVersion) {
    dialect_ = Dialect::kPlain;
  } else {
    return Errno::kProto;
  }
  msize_ = reply.msize;
  return {};
}

Result<Client::Line*> Client::take_line(uint16_t cpu) {
  const Lock lock(mutex_);
  while (free_lines_.empty() && !dead()) line_free_.wait(mutex_);
  if (dead()) return Errno::kIo;
  const auto near = std::ranges::find(free_lines_, cpu, &Line::cpu);
  const auto chosen = near != free_lines_.end() ? near : free_lines_.end() - 1;
  Line* line = *chosen;
  free_lines_.erase(chosen);
  line->cpu = cpu;
  return line;
}

void Client::give_back(Line* line) {
  line->fds.clear();
  {
    const Lock lock(mutex_);
    free_lines_.push_back(line);
  }
  line_free_.notify_one();
}

// Everybody who waits, for a reply or for a line, is woken and fails.
void Client::die() {
  if (dead_.exchange(true)) return;
  for (const std::unique_ptr<Line>& line : lines_) line->channel->shut_down();
  { const Lock lock(mutex_); }  // nobody is between looking at dead_ and waiting
  line_free_.notify_all();
}

uint32_t Client::new_fid() {
  const Lock lock(mutex_);
  if (free_fids_.empty()) return next_fid_++;
  const uint32_t fid = free_fids_.back();
  free_fids_.pop_back();
  return fid;
}

void Client::unused(uint32_t fid) {
  const Lock lock(mutex_);
  free_fids_.push_back(fid);
}

// Only queued: the caller may hold locks, or be in the middle of an exchange.
void Client::clunk_later(uint32_t fid) {
  if (dead()) return;
  const Lock lock(mutex_);
  clunks_.push_back(fid);
}

std::vector<uint32_t> Client::take_clunks(size_t at_most) {
  const Lock lock(mutex_);
  const size_t count = std::min(at_most, clunks_.size());
  const auto first = clunks_.end() - static_cast<ptrdiff_t>(count);
  std::vector<uint32_t> taken(first, clunks_.end());
  clunks_.erase(first, clunks_.end());
  return taken;
}

}  // namespace boxrun::gofer
