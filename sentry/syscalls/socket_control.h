// Ancillary data (cmsg(3)): descriptors and credentials that travel with a message.
#pragma once
#include <sys/socket.h>

#include <cstdint>

#include "sentry/net/socket.h"
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// Reads the control buffer of a message to be sent: EINVAL, EBADF, EPERM, ENOBUFS (net/core/scm.c).
Result<void> read_control(Task& task, const msghdr& header, net::Outgoing& out);

// Writes what came with a message into its control buffer and sets the header's msg_controllen to
// what was used; MSG_CTRUNC in its msg_flags when not all had room. Descriptors are installed here.
Result<void> write_control(Task& task, net::Incoming& in, bool close_on_exec, msghdr& header);

}  // namespace boxrun::syscalls
