#include "src/host/start_message.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace boxrun::host {
namespace {

constexpr uint32_t kMagic = 0x62786d31;  // "bxm1"
constexpr size_t kMaxText = 1000;

struct Header {
  uint32_t magic;
  uint32_t layers;
  uint16_t failed;
  int16_t error;
  std::array<uint16_t, 4> text_sizes;  // what, layer, remedy, platform
};
static_assert(sizeof(Header) == 20);

}  // namespace

Result<void> send_start_message(int socket, const StartMessage& message) {
  const Failure failure = message.failure.value_or(Failure{});
  const std::array<const std::string*, 4> texts = {&failure.what, &failure.layer, &failure.remedy,
                                                   &message.platform};
  Header header{};
  header.magic = kMagic;
  header.layers = message.layers.bits();
  header.failed = message.failure.has_value() ? 1 : 0;
  header.error = static_cast<int16_t>(failure.error);
  std::string packet(sizeof header, '\0');
  for (size_t i = 0; i < texts.size(); i++) {
    const size_t size = std::min(texts[i]->size(), kMaxText);
    header.text_sizes[i] = static_cast<uint16_t>(size);
    packet.append(*texts[i], 0, size);
  }
  memcpy(packet.data(), &header, sizeof header);
  while (::send(socket, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return last_error();
  }
  return {};
}

Result<StartMessage> receive_start_message(int socket) {
  std::array<char, 4096> packet;
  ssize_t size = 0;
  while ((size = ::recv(socket, packet.data(), packet.size(), 0)) < 0) {
    // A peer that died with unread packets in its queue shows as a reset.
    if (errno == ECONNRESET) return Errno::kNoData;
    if (errno != EINTR) return last_error();
  }
  if (size == 0) return Errno::kNoData;
  Header header;
  if (static_cast<size_t>(size) < sizeof header) return Errno::kBadMsg;
  memcpy(&header, packet.data(), sizeof header);
  size_t expected = sizeof header;
  for (const uint16_t text_size : header.text_sizes) expected += text_size;
  if (header.magic != kMagic || expected != static_cast<size_t>(size)) return Errno::kBadMsg;

  StartMessage message;
  message.layers = LayerSet::from_bits(header.layers);
  Failure failure;
  failure.error = header.error == 0 ? Errno::kOk : from_host(header.error);
  const char* text = packet.data() + sizeof header;
  const std::array<std::string*, 4> texts = {&failure.what, &failure.layer, &failure.remedy,
                                             &message.platform};
  for (size_t i = 0; i < texts.size(); i++) {
    texts[i]->assign(text, header.text_sizes[i]);
    text += header.text_sizes[i];
  }
  if (header.failed != 0) message.failure = std::move(failure);
  return message;
}

}  // namespace boxrun::host
