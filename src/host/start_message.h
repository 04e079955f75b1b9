#pragma once
#include "src/base/failure.h"
#include "src/base/result.h"
#include "src/host/layers.h"

namespace boxrun::host {

// The first packet that the Gofer and the Sentry send to the monitor on their SOCK_SEQPACKET
// socket: either they are sealed and ready, or why not. A process that cannot start says so in this
// way before it exits, so the monitor never has to guess from an end of file.
struct StartMessage {
  MaybeFailure failure;
  LayerSet layers;       // in force in the sender; also filled for a failure, as far as it got
  std::string platform;  // that the Sentry chose; the Gofer has none
};

// Texts are cut so that the packet stays below 4 KiB. Errors: EPIPE when the monitor is gone.
Result<void> send_start_message(int socket, const StartMessage& message);
// Waits for one packet. Errors: ENODATA when the peer ended without a word, EBADMSG when the packet
// is malformed.
Result<StartMessage> receive_start_message(int socket);

}  // namespace boxrun::host
