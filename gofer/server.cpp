// The server's loop: packets in, packets out. Malformed input ends the session, everything else is
// answered.
#include <algorithm>
#include <array>
#include <type_traits>

#include "gofer/cpu_follower.h"
#include "gofer/requests.h"

namespace boxrun::gofer {
namespace {

// What any reply but a data one fits in: attributes and the text of a symbolic link. A batch stops
// before a request whose reply might not fit, rather than after it took effect.
constexpr size_t kReplyRoom = 4608;

// The buffers of one serving thread.
struct Buffers {
  std::array<std::byte, kMaxMessage> in, out, scratch;
};

}  // namespace

void Session::serve(Channel& channel) {
  {
    const Lock lock(mutex_);
    channels_.push_back(&channel);
  }
  const auto buffers = std::make_unique_for_overwrite<Buffers>();
  FdList received, donated;
  CpuFollower cpu;
  for (;;) {
    const Result<size_t> size = channel.receive(buffers->in, received);
    if (!size.ok()) break;
    received.clear();  // clients have nothing to give
    Decoder decoder(Data(buffers->in).first(*size));
    const Result<Frame> frame = next_frame(decoder);
    if (!frame.ok() || !decoder.finished()) break;
    Encoder out(std::span(buffers->out).first(msize_));
    Requests requests(*this, out, donated, buffers->scratch, channel.carries_fds());
    if (requests.packet(*frame) == Requests::Outcome::kMalformed) break;
    if (!channel.send(Data(buffers->out).first(out.size()), donated).ok()) break;
    donated.clear();
    if (dialect_ == Dialect::kBoxrun) cpu.follow(frame->tag);
  }
  // Whatever ended this channel ends the session: its other threads must not wait for ever.
  shut_down_all();
  const Lock lock(mutex_);
  std::erase(channels_, &channel);
}

Requests::Outcome Requests::packet(const Frame& frame) {
  const Dialect dialect = session_.dialect_;
  if (dialect == Dialect::kNone && frame.type != Type::kTversion) return Outcome::kMalformed;
  if (dialect == Dialect::kBoxrun && frame.type == Type::kTbatch) return batch(frame);
  return one(frame);
}

Requests::Outcome Requests::batch(const Frame& frame) {
  Decoder in(frame.body);
  uint16_t count = 0;
  in(count);
  if (!in.ok() || count > kMaxBatch) return Outcome::kMalformed;
  const size_t start = out_.size();
  out_(uint32_t{0}, reply_type(Type::kTbatch), frame.tag);
  for (uint16_t i = 0; i < count; i++) {
    const Result<Frame> request = next_frame(in);
    // A session is not restarted in the middle of a packet, and batches do not nest.
    if (!request.ok() || request->type == Type::kTversion) return Outcome::kMalformed;
    const Outcome outcome =
        out_.room() < kReplyRoom ? fail(request->tag, Errno::kNoBufs) : one(*request);
    if (outcome == Outcome::kMalformed) return outcome;
    if (outcome == Outcome::kFailed) break;
  }
  out_.patch(start, static_cast<uint32_t>(out_.size() - start));
  return Outcome::kAnswered;
}

// Who may attach was decided when the channel was made. An error of 0 is how diod's server says
// that it wants no authentication; its clients take any other for a refusal.
Requests::Outcome Requests::no_authentication(const Frame& frame) {
  if (!decode<Tauth>(frame).ok()) return Outcome::kMalformed;
  return encode(out_, frame.tag, Rlerror{0}) ? Outcome::kFailed : Outcome::kMalformed;
}

template <class Request>
Requests::Outcome Requests::answer(const Frame& frame) {
  const Result<Request> request = decode<Request>(frame);
  if (!request.ok()) return Outcome::kMalformed;
  denial_ = {};
  if constexpr (!std::is_same_v<Request, Tstat>) walked_.node = {};
  const auto reply = handle(*request);
  if (!reply.ok()) return fail(frame.tag, reply.error());
  const size_t start = out_.size();
  if (encode(out_, frame.tag, *reply)) return Outcome::kAnswered;
  out_.rewind(start);
  return fail(frame.tag, Errno::kNoBufs);
}

Requests::Outcome Requests::fail(uint16_t tag, Errno error) {
  const auto code = static_cast<uint32_t>(error);
  const bool fits = session_.dialect_ == Dialect::kBoxrun && denial_.rule != Rule::kNone
                        ? encode(out_, tag, Rdenied{code, denial_.rule})
                        : encode(out_, tag, Rlerror{code});
  return fits ? Outcome::kFailed : Outcome::kMalformed;
}

Requests::Outcome Requests::one(const Frame& frame) {
  switch (frame.type) {
    case Type::kTversion:
      return answer<Tversion>(frame);
    case Type::kTauth:
      return no_authentication(frame);
    case Type::kTflush:
      return answer<Tflush>(frame);
    case Type::kTattach:
      return answer<Tattach>(frame);
    case Type::kTwalk:
      return answer<Twalk>(frame);
    case Type::kTclunk:
      return answer<Tclunk>(frame);
    case Type::kTgetattr:
      return answer<Tgetattr>(frame);
    case Type::kTreadlink:
      return answer<Treadlink>(frame);
    case Type::kTstatfs:
      return answer<Tstatfs>(frame);
    case Type::kTlopen:
      return answer<Tlopen>(frame);
    case Type::kTlcreate:
      return answer<Tlcreate>(frame);
    case Type::kTread:
      return answer<Tread>(frame);
    case Type::kTwrite:
      return answer<Twrite>(frame);
    case Type::kTfsync:
      return answer<Tfsync>(frame);
    case Type::kTlock:
      return answer<Tlock>(frame);
    case Type::kTgetlock:
      return answer<Tgetlock>(frame);
    case Type::kTreaddir:
      return answer<Treaddir>(frame);
    case Type::kTxattrwalk:
      return answer<Txattrwalk>(frame);
    default:
      return change(frame);
  }
}

// The requests for names and attributes to be other ones.
Requests::Outcome Requests::change(const Frame& frame) {
  switch (frame.type) {
    case Type::kTsetattr:
      return answer<Tsetattr>(frame);
    case Type::kTmkdir:
      return answer<Tmkdir>(frame);
    case Type::kTmknod:
      return answer<Tmknod>(frame);
    case Type::kTsymlink:
      return answer<Tsymlink>(frame);
    case Type::kTlink:
      return answer<Tlink>(frame);
    case Type::kTunlinkat:
      return answer<Tunlinkat>(frame);
    case Type::kTremove:
      return answer<Tremove>(frame);
    case Type::kTrename:
      return answer<Trename>(frame);
    case Type::kTrenameat:
      return answer<Trenameat>(frame);
    case Type::kTxattrcreate:
      return answer<Txattrcreate>(frame);
    default:
      break;
  }
  if (session_.dialect_ == Dialect::kBoxrun) return extension(frame);
  return fail(frame.tag, Errno::kOpNotSupp);
}

Requests::Outcome Requests::extension(const Frame& frame) {
  switch (frame.type) {
    case Type::kTas:
      return answer<Tas>(frame);
    case Type::kTstat:
      return answer<Tstat>(frame);
    case Type::kTopen:
      return answer<Topen>(frame);
    case Type::kTcreate:
      return answer<Tcreate>(frame);
    case Type::kTreaddirplus:
      return answer<Treaddirplus>(frame);
    case Type::kTrenameat2:
      return answer<Trenameat2>(frame);
    case Type::kTbell:
      return answer<Tbell>(frame);
    case Type::kTwatch:
      return answer<Twatch>(frame);
    case Type::kTcollect:
      return answer<Tcollect>(frame);
    case Type::kTbatch:
      return Outcome::kMalformed;
    default:
      return fail(frame.tag, Errno::kOpNotSupp);
  }
}

Requests::Reply<Tversion> Requests::handle(const Tversion& m) {
  // Too small for the replies that must fit: the client is told what we can do and goes.
  const uint32_t msize = std::min<uint32_t>(m.msize, kMaxMessage);
  if (msize < kMinMessage) return Errno::kMsgSize;
  Dialect dialect = Dialect::kNone;
  std::string_view answer = "unknown";
  if (m.version == kBatchVersion) {
    dialect = Dialect::kBoxrun;
    answer = kBatchVersion;
  } else if (m.version.starts_with(kPlainVersion)) {
    dialect = Dialect::kPlain;  // version(5): a suffix that is not known is left away
    answer = kPlainVersion;
  }
  session_.reset(dialect, msize);
  return Rversion{msize, answer};
}

// A channel's requests are answered one after the other: what is flushed has been answered.
Requests::Reply<Tflush> Requests::handle(const Tflush&) { return Tflush::Reply{}; }

Requests::Reply<Tas> Requests::handle(const Tas& m) {
  as_ = m.uid;
  return Tas::Reply{};
}

}  // namespace boxrun::gofer
