// AF_INET and AF_INET6 (ip(7), ipv6(7)): sockets of a network namespace in which no interface is
// up. They have names and options; nobody can be reached, and who tries is reported.
#pragma once
#include "sentry/net/inet_system.h"
#include "sentry/net/socket.h"

namespace boxrun::net {

// socket(2). `type` without flags; `flags`: O_NONBLOCK. EPROTONOSUPPORT, ESOCKTNOSUPPORT; EPERM and
// EACCES for raw and ICMP sockets; ENFILE.
Result<Ref<Socket>> create_inet_socket(const Ref<InetSystem>& system, int domain, int type,
                                       int protocol, int flags, Ref<Credentials> credentials);

}  // namespace boxrun::net
