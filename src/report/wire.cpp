#include "src/report/wire.h"

#include <algorithm>
#include <concepts>
#include <cstring>

namespace boxrun::report {
namespace {

enum class Type : uint8_t {
  kSighting = 1,
  kCount = 2,
  kUnrecorded = 3,
  kChange = 4,
  kStatistic = 5
};

// Both ends are one executable on one machine: integers are in host order.
class Encoder {
 public:
  template <std::integral T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof value);
  }
  template <class E>
  requires std::is_enum_v<E>
  void choice(E value) { number(static_cast<std::underlying_type_t<E>>(value)); }
  void text(const std::string& text, size_t limit) {
    const auto size = static_cast<uint16_t>(std::min(text.size(), limit));
    number(size);
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    out_.insert(out_.end(), bytes, bytes + size);
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> in) : in_(in) {}

  template <std::integral T>
  Result<T> number() {
    T value;
    if (in_.size() < sizeof value) return Errno::kBadMsg;
    std::memcpy(&value, in_.data(), sizeof value);
    in_ = in_.subspan(sizeof value);
    return value;
  }
  // An enumerator from 0 to `last`.
  template <class E>
  Result<E> choice(E last) {
    using Number = std::underlying_type_t<E>;
    const Number value = TRY(number<Number>());
    if (value > static_cast<Number>(last)) return Errno::kBadMsg;
    return static_cast<E>(value);
  }
  Result<std::string> text(size_t limit) {
    const size_t size = TRY(number<uint16_t>());
    if (size > limit || size > in_.size()) return Errno::kBadMsg;
    std::string text(reinterpret_cast<const char*>(in_.data()), size);
    in_ = in_.subspan(size);
    return text;
  }
  Result<void> end() const {
    if (!in_.empty()) return Errno::kBadMsg;
    return {};
  }

 private:
  std::span<const std::byte> in_;
};

void encode_process(Encoder& out, const Process& process) {
  out.number(process.pid);
  out.text(process.command, kMaxCommand);
}

Result<Process> decode_process(Decoder& in) {
  Process process;
  process.pid = TRY(in.number<int32_t>());
  process.command = TRY(in.text(kMaxCommand));
  return process;
}

void encode_record(Encoder& out, const Record& record) {
  out.choice(record.kind);
  out.choice(record.severity);
  out.choice(record.verdict);
  out.choice(record.error);
  for (const std::string* text : {&record.target, &record.detail, &record.grant, &record.syscall,
                                  &record.call, &record.rule}) {
    out.text(*text, kMaxText);
  }
  encode_process(out, record.process);
  const auto ancestors = static_cast<uint8_t>(std::min(record.chain.size(), kMaxChain));
  out.number(ancestors);
  for (size_t i = 0; i < ancestors; ++i) encode_process(out, record.chain[i]);
  out.number(record.first_time);
  out.number(record.count);
}

Result<Record> decode_record(Decoder& in) {
  Record record;
  record.kind = TRY(in.choice(kLastKind));
  record.severity = TRY(in.choice(Severity::kHigh));
  record.verdict = TRY(in.choice(kLastVerdict));
  const auto error = TRY(in.number<int16_t>());
  if (error < 0 || error >= 512) return Errno::kBadMsg;
  record.error = static_cast<Errno>(error);
  for (std::string* text : {&record.target, &record.detail, &record.grant, &record.syscall,
                            &record.call, &record.rule}) {
    *text = TRY(in.text(kMaxText));
  }
  record.process = TRY(decode_process(in));
  const size_t ancestors = TRY(in.number<uint8_t>());
  if (ancestors > kMaxChain) return Errno::kBadMsg;
  for (size_t i = 0; i < ancestors; ++i) record.chain.push_back(TRY(decode_process(in)));
  record.first_time = TRY(in.number<int64_t>());
  record.count = TRY(in.number<uint64_t>());
  if (record.count == 0) return Errno::kBadMsg;
  return record;
}

struct EncodeMessage {
  Encoder& out;

  void operator()(const Sighting& sighting) const {
    out.choice(Type::kSighting);
    out.number(sighting.id);
    encode_record(out, sighting.record);
  }
  void operator()(const CountUpdate& update) const {
    out.choice(Type::kCount);
    out.number(update.id);
    out.number(update.count);
  }
  void operator()(const Unrecorded& unrecorded) const {
    out.choice(Type::kUnrecorded);
    out.number(unrecorded.count);
  }
  void operator()(const Change& change) const {
    out.choice(Type::kChange);
    out.choice(change.op);
    out.text(change.path, kMaxText);
  }
  void operator()(const Statistic& statistic) const {
    out.choice(Type::kStatistic);
    out.text(statistic.name, kMaxCommand);
    out.number(statistic.value);
  }
};

Result<void> decode_body(Type type, Decoder& in, Message& out) {
  switch (type) {
    case Type::kSighting: {
      auto& sighting = out.emplace<Sighting>();
      sighting.id = TRY(in.number<uint32_t>());
      sighting.record = TRY(decode_record(in));
      return {};
    }
    case Type::kCount: {
      auto& update = out.emplace<CountUpdate>();
      update.id = TRY(in.number<uint32_t>());
      update.count = TRY(in.number<uint64_t>());
      return {};
    }
    case Type::kUnrecorded:
      out.emplace<Unrecorded>().count = TRY(in.number<uint64_t>());
      return {};
    case Type::kChange: {
      auto& change = out.emplace<Change>();
      change.op = TRY(in.choice(Change::Op::kDeleted));
      change.path = TRY(in.text(kMaxText));
      return {};
    }
    case Type::kStatistic: {
      auto& statistic = out.emplace<Statistic>();
      statistic.name = TRY(in.text(kMaxCommand));
      statistic.value = TRY(in.number<uint64_t>());
      return {};
    }
  }
  return Errno::kBadMsg;
}

}  // namespace

std::vector<std::byte> encode(const Message& message) {
  static_assert(6 * (kMaxText + 2) + (kMaxChain + 1) * (kMaxCommand + 6) + 64 <= kMaxPacket);
  Encoder out;
  std::visit(EncodeMessage{out}, message);
  return out.take();
}

Result<Message> decode(std::span<const std::byte> packet) {
  if (packet.size() > kMaxPacket) return Errno::kBadMsg;
  Decoder in(packet);
  const Type type = TRY(in.choice(Type::kStatistic));
  Result<Message> message = Message(Unrecorded{});
  TRY(decode_body(type, in, *message));
  TRY(in.end());
  return message;
}

}  // namespace boxrun::report
