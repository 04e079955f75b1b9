#include <arpa/inet.h>
#include <sys/socket.h>

#include <memory>
#include <vector>

#include "sentry/net/inet_address.h"
#include "sentry/net/inet_system.h"
#include "tests/unit/test.h"

namespace boxrun::net {
namespace {

Ref<InetSystem> make_system() { return make_ref<InetSystem>(Ref<vfs::Mount>()); }

PortUse use_of(uint16_t port) { return {.type = SOCK_STREAM, .port = port, .v4 = true}; }

in6_addr v6_address(uint16_t first, uint16_t last) {
  in6_addr address{};
  address.s6_addr16[0] = htons(first);
  address.s6_addr16[7] = htons(last);
  return address;
}

}  // namespace

TEST_CASE("ports: when every ephemeral one is taken, that is an error and nothing else changes") {
  const auto system = make_system();
  constexpr size_t kPorts = InetSystem::kLastEphemeral - InetSystem::kFirstEphemeral + 1;
  std::vector<std::unique_ptr<PortUse>> uses;
  for (size_t i = 0; i < kPorts; i++) {
    uses.push_back(std::make_unique<PortUse>(use_of(0)));
    REQUIRE(system->claim(*uses.back()).ok());
    REQUIRE(uses.back()->port >= InetSystem::kFirstEphemeral);
    REQUIRE(uses.back()->port <= InetSystem::kLastEphemeral);
  }
  PortUse late = use_of(0);
  CHECK(system->claim(late).error() == Errno::kAddrInUse);
  CHECK(late.port == 0);
  const uint16_t freed = uses[77]->port;
  system->give_up(*uses[77]);
  CHECK(system->claim(late).ok());
  CHECK(late.port == freed);
  system->give_up(late);
  for (const auto& use : uses) system->give_up(*use);
}

TEST_CASE("ports: SO_REUSEPORT shares among sockets of one user") {
  const auto system = make_system();
  PortUse mine = use_of(80), mine_too = use_of(80), of_another = use_of(80);
  for (PortUse* use : {&mine, &mine_too, &of_another}) use->reuse_port = true;
  of_another.owner = 1000;
  CHECK(system->claim(mine).ok());
  CHECK(system->claim(of_another).error() == Errno::kAddrInUse);
  CHECK(system->claim(mine_too).ok());
  CHECK(system->start_listening(mine).ok());
  CHECK(system->start_listening(mine_too).ok());
  system->give_up(mine);
  system->give_up(mine_too);
  CHECK(system->claim(of_another).ok());
  system->give_up(of_another);
}

TEST_CASE("sockets: there is a limit") {
  const auto system = make_system();
  for (uint64_t i = 0; i < InetSystem::kMaxSockets; i++) REQUIRE(system->socket_made().ok());
  CHECK(system->socket_made().error() == Errno::kNFile);
  system->socket_gone();
  CHECK(system->socket_made().ok());
}

TEST_CASE("addresses: as reports show them") {
  sockaddr_in v4{};
  v4.sin_port = htons(443);
  v4.sin_addr.s_addr = htonl(0xcb007109);
  CHECK(InetAddress::from(v4).text() == "203.0.113.9:443");
  CHECK(InetAddress{v6_address(0x2001, 1), 53, 0}.text() == "[2001::1]:53");
}

TEST_CASE("addresses: which of them are this host") {
  const auto v4 = [](uint32_t address) {
    sockaddr_in name{};
    name.sin_addr.s_addr = htonl(address);
    return InetAddress::from(name).is_this_host();
  };
  CHECK(v4(0));
  CHECK(v4(0x7f000001));
  CHECK(v4(0x7fffffff));
  CHECK_FALSE(v4(0x80000000));
  CHECK_FALSE(v4(0x7effffff));
  CHECK(InetAddress{v6_address(0, 0), 0, 0}.is_this_host());
  CHECK(InetAddress{v6_address(0, 1), 0, 0}.is_this_host());
  CHECK_FALSE(InetAddress{v6_address(0, 2), 0, 0}.is_this_host());
}

}  // namespace boxrun::net
