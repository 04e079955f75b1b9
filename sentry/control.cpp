#include "sentry/control.h"

#include <sys/socket.h>

#include <cerrno>

namespace boxrun::sentry {

Result<void> send_control(int socket, const ControlMessage& message) {
  for (;;) {
    const ssize_t n = send(socket, &message, sizeof message, MSG_NOSIGNAL);
    if (n == sizeof message) return {};
    if (n >= 0) return Errno::kIo;
    if (errno != EINTR) return last_error();
  }
}

Result<ControlMessage> receive_control(int socket) {
  ControlMessage message;
  for (;;) {
    // MSG_TRUNC makes a longer packet show its length instead of passing for a good one.
    const ssize_t n = recv(socket, &message, sizeof message, MSG_TRUNC);
    if (n == 0) return Errno::kNoData;
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno == ECONNRESET ? Errno::kNoData : last_error();
    }
    const auto kind = static_cast<uint32_t>(message.kind);
    if (n != sizeof message || kind == 0 || kind > static_cast<uint32_t>(ControlMessage::kLast)) {
      return Errno::kBadMsg;
    }
    return message;
  }
}

}  // namespace boxrun::sentry
