// AF_UNIX (unix(7)): stream, datagram and sequenced-packet sockets between programs of one sandbox.
#pragma once
#include <utility>

#include "sentry/net/socket.h"
#include "sentry/net/unix_system.h"

namespace boxrun::net {

// socket(2). `type` without flags; `flags`: O_NONBLOCK. EPROTONOSUPPORT, ESOCKTNOSUPPORT, ENFILE.
Result<Ref<Socket>> create_unix_socket(const Ref<UnixSystem>& system, int type, int protocol,
                                       int flags, Ref<Credentials> credentials);
// socketpair(2).
Result<std::pair<Ref<Socket>, Ref<Socket>>> create_unix_pair(const Ref<UnixSystem>& system,
                                                             int type, int protocol, int flags,
                                                             const Ref<Credentials>& credentials,
                                                             const ucred& who);

}  // namespace boxrun::net
