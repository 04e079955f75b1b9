#pragma once
#include <sys/resource.h>

#include <cstdint>
#include <optional>

#include "src/base/errno.h"
#include "src/base/result.h"

namespace boxrun::sentry {

// What Sentry and monitor say to each other once the Sentry is sealed: one message a packet on a
// SEQPACKET socket. The monitor checks everything it gets; the Sentry is the less trusted side.
struct ControlMessage {
  enum class Kind : uint32_t {
    // monitor -> Sentry
    kSignal = 1,      // value: a signal for the target's process group
    kKill,            // end every process of the sandbox now
    kTerminalSignal,  // value: a signal that the terminal sent (^C, ^Z, its size): to the
                      // foreground
    kOrphaned,        // the monitor could not stop with the target: nobody would continue it
    // Sentry -> monitor
    kStarted,     // value: the target's pid in the sandbox
    kExecFailed,  // value: errno of execve; nothing ran
    kStopped,     // value: the signal that job control stopped the target with
    kContinued,
    kExited,     // value: the target's wait status; usage is filled
    kGoferLost,  // instead of any other end: the target lost its files and is not to blame
    kTraceLost,  // value: errno of the first line of the trace that could not be written
  };
  static constexpr Kind kLast = Kind::kTraceLost;

  Kind kind{};
  int32_t value = 0;
  rusage usage{};
};

// EPIPE when the other side is gone. Does not raise SIGPIPE.
Result<void> send_control(int socket, const ControlMessage& message);
// Waits for a message. ENODATA when the other side is gone, EBADMSG for anything malformed.
Result<ControlMessage> receive_control(int socket);

}  // namespace boxrun::sentry
