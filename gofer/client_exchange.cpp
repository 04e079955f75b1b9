#include "gofer/client_exchange.h"

#include <sched.h>

#include "src/base/file_status.h"

namespace boxrun::gofer {
namespace {

// Room in front of the requests for what makes them a batch: header and count.
constexpr size_t kBatchHeader = kHeaderSize + sizeof(uint16_t);
constexpr size_t kMaxClunks = 100;  // in front of one packet

// Where the calling thread is and, as it will wait for the reply, where there is room for the
// server.
uint16_t this_cpu() {
  const int cpu = ::sched_getcpu();
  return cpu < 0 || cpu >= kNoTag - 1 ? kNoCpu : static_cast<uint16_t>(cpu + 1);
}

}  // namespace

Exchange::Exchange(Client& client)
    : client_(client), out_(std::span<std::byte>()), cpu_(this_cpu()) {
  Result<Client::Line*> line = client_.take_line(cpu_);
  if (!line.ok()) return;
  line_ = *line;
  line_->fds.clear();
  out_ = Encoder(std::span(line_->out).first(client_.msize_));
  for (size_t i = 0; i < kBatchHeader; i++) out_(uint8_t{0});
  clunks_ = client_.take_clunks(kMaxClunks);
  if (client_.dialect_ != Dialect::kBoxrun) return;
  for (uint32_t fid : clunks_) add(Tclunk{fid});
}

Exchange::~Exchange() {
  for (uint32_t fid : clunks_) client_.clunk_later(fid);  // those that were not sent
  if (line_ != nullptr) client_.give_back(line_);
}

// Tags only serve to recognise the answer, and replies of a batch come in order. Tversion has its
// own, by the protocol.
uint16_t Exchange::tag_of_next() const {
  switch (client_.dialect_) {
    case Dialect::kNone:
      return kNoTag;
    case Dialect::kPlain:
      return count_;
    case Dialect::kBoxrun:
      break;
  }
  return cpu_;
}

Errno Exchange::broken() {
  client_.die();
  failure_ = {Errno::kIo, Rule::kNone};
  return Errno::kIo;
}

Result<void> Exchange::run() {
  if (line_ == nullptr) return broken();
  if (!out_.ok() || count_ > kMaxBatch) return Errno::kMsgSize;
  return client_.dialect_ == Dialect::kBoxrun ? run_batch() : run_single();
}

Result<Frame> Exchange::round_trip(Data packet, uint16_t tag, size_t kept) {
  client_.round_trips_.fetch_add(1, std::memory_order_relaxed);
  if (!line_->channel->send(packet, FdList()).ok()) return broken();
  const auto into = std::span(line_->in).subspan(kept);
  const Result<size_t> size = line_->channel->receive(into, line_->fds);
  if (!size.ok()) return broken();
  Decoder decoder(into.first(*size));
  const Result<Frame> frame = next_frame(decoder);
  if (!frame.ok() || !decoder.finished() || frame->tag != tag) return broken();
  return Frame(*frame);
}

Result<void> Exchange::run_batch() {
  std::span<std::byte> packet = std::span(line_->out).first(out_.size());
  const bool single = count_ == 1;
  if (single) {
    packet = packet.subspan(kBatchHeader);
  } else {
    Encoder header(packet);
    header(static_cast<uint32_t>(packet.size()), Type::kTbatch, cpu_, count_);
  }
  const Frame reply = TRY(round_trip(packet, cpu_, 0));
  if (single) {
    replies_ =
        Decoder(std::span<const std::byte>(line_->in).first(kHeaderSize + reply.body.size()));
  } else if (reply.type == reply_type(Type::kTbatch)) {
    replies_ = Decoder(reply.body);
  } else {
    return broken();
  }
  // Clunking a fid of ours cannot fail.
  const std::vector<uint32_t> sent = std::exchange(clunks_, {});
  for (uint32_t fid : sent) {
    if (!next<Tclunk::Reply>().ok()) return broken();
    client_.unused(fid);
  }
  return {};
}

// A plain peer answers one request after the other; its replies are laid out one behind the other
// as those of a batch are.
Result<void> Exchange::run_single() {
  TRY(clunk_first());
  Decoder requests(std::span<const std::byte>(line_->out).first(out_.size()).subspan(kBatchHeader));
  size_t kept = 0;
  for (uint16_t i = 0; i < count_; i++) {
    const Data rest = requests.rest();
    const Frame request = TRY(next_frame(requests));
    const size_t size = kHeaderSize + request.body.size();
    const Frame reply = TRY(round_trip(rest.first(size), request.tag, kept));
    kept += kHeaderSize + reply.body.size();
    if (reply.type == Type::kRlerror) break;
  }
  replies_ = Decoder(std::span<const std::byte>(line_->in).first(kept));
  return {};
}

Result<void> Exchange::clunk_first() {
  while (!clunks_.empty()) {
    const uint32_t fid = clunks_.back();
    clunks_.pop_back();
    std::array<std::byte, kHeaderSize + sizeof(uint32_t)> packet;
    Encoder encoder(packet);
    encode(encoder, 0, Tclunk{fid});
    TRY(round_trip(packet, 0, 0));
    client_.unused(fid);
  }
  return {};
}

Result<Frame> Exchange::next_reply(Type expected) {
  if (failure_.error != Errno::kOk) return Errno::kCanceled;
  const Result<Frame> frame = next_frame(replies_);
  if (!frame.ok()) return broken();
  if (frame->type == expected) return Frame(*frame);
  if (frame->type == Type::kRlerror) {
    const Result<Rlerror> error = decode<Rlerror>(*frame);
    if (!error.ok()) return broken();
    failure_ = {peer_errno(error->ecode), Rule::kNone};
    return failure_.error;
  }
  if (frame->type == Type::kRdenied && client_.dialect_ == Dialect::kBoxrun) {
    const Result<Rdenied> error = decode<Rdenied>(*frame);
    if (!error.ok()) return broken();
    failure_ = {peer_errno(error->ecode), error->rule};
    return failure_.error;
  }
  return broken();
}

Result<UniqueFd> Exchange::take_descriptor() {
  UniqueFd fd = line_->fds.take_next();
  if (!fd && line_->fds.lost()) return Errno::kNFile;
  if (!fd) return broken();
  return fd;
}

Result<UniqueFd> Exchange::take_file() {
  UniqueFd file = TRY(take_descriptor());
  // A FIFO or a device in place of a file could make the Sentry wait for somebody.
  const Result<struct stat> status = file_status(file.get());
  if (!status.ok() || !S_ISREG(status->st_mode)) return broken();
  return file;
}

}  // namespace boxrun::gofer
