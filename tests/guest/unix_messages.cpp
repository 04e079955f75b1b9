// What messages of AF_UNIX sockets carry besides data: credentials and descriptors.
#include <fcntl.h>

#include "tests/guest/guest_test.h"
#include "tests/guest/unix_socket.h"

using namespace guest_unix;

CASE(credentials_of_the_peer) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  ucred peer = {};
  socklen_t length = sizeof peer;
  CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
  CHECK_EQ(peer.pid, getpid());
  CHECK_EQ(peer.uid, geteuid());
  int on = 1;
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  CHECK_EQ(write(pair[0], "x", 1), 1);
  Message got;
  CHECK_EQ(recvmsg(pair[1], &got.header, 0), 1);
  ucred sender = {};
  REQUIRE(got.received(SCM_CREDENTIALS, &sender));
  CHECK_EQ(sender.pid, getpid());
  CHECK_EQ(sender.uid, getuid());
}

CASE(credentials_that_the_sender_names) {
  int pair[2], on = 1;
  make_pair(SOCK_STREAM, pair);
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  const ucred mine = {getpid(), getuid(), getgid()};
  Message own("x", SCM_CREDENTIALS, mine);
  CHECK_EQ(sendmsg(pair[0], &own.header, 0), 1);
  Message got;
  CHECK_EQ(recvmsg(pair[1], &got.header, 0), 1);
  ucred sender = {};
  REQUIRE(got.received(SCM_CREDENTIALS, &sender));
  CHECK_EQ(sender.pid, mine.pid);
  CHECK_EQ(sender.uid, mine.uid);
  CHECK_EQ(sender.gid, mine.gid);
  Message short_one("x", SCM_CREDENTIALS, mine.pid);
  CHECK_ERRNO(sendmsg(pair[0], &short_one.header, 0), EINVAL);
  Message unknown("x", 77, mine);
  CHECK_ERRNO(sendmsg(pair[0], &unknown.header, 0), EINVAL);
}

CASE(credentials_of_others_take_privilege) {
  constexpr int kSetGid = 6, kSetUid = 7, kSysAdmin = 21;
  int pair[2], on = 1;
  make_pair(SOCK_STREAM, pair);
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  if (guest::has_capability(kSetUid) && guest::has_capability(kSysAdmin)) {
    Message other("x", SCM_CREDENTIALS, ucred{getppid(), 1234, getgid()});
    CHECK_EQ(sendmsg(pair[0], &other.header, 0), 1);
    Message got;
    CHECK_EQ(recvmsg(pair[1], &got.header, 0), 1);
    ucred sender = {};
    REQUIRE(got.received(SCM_CREDENTIALS, &sender));
    CHECK_EQ(sender.pid, getppid());
    CHECK_EQ(sender.uid, 1234);
    Message nobody("x", SCM_CREDENTIALS, ucred{0x3ffffff, getuid(), getgid()});
    CHECK_ERRNO(sendmsg(pair[0], &nobody.header, 0), ESRCH);
  }
  if (guest::has_capability(kSetUid) && guest::has_capability(kSetGid)) {
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
  }
  const ucred forged[] = {{getppid(), getuid(), getgid()},
                          {getpid(), getuid() + 1, getgid()},
                          {getpid(), getuid(), getgid() + 1}};
  for (const ucred& claim : forged) {
    Message message("x", SCM_CREDENTIALS, claim);
    CHECK_ERRNO(sendmsg(pair[0], &message.header, 0), EPERM);
  }
}

CASE(descriptors_with_data_that_is_cut) {
  int pair[2], channel[2];
  make_pair(SOCK_DGRAM, pair);
  REQUIRE(pipe(channel) == 0);
  Message out("a long text", SCM_RIGHTS, channel[1]);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 11);
  close(channel[1]);
  Message peeked(4), in(4);
  CHECK_EQ(recvmsg(pair[1], &peeked.header, MSG_PEEK | MSG_TRUNC), 11);
  CHECK_EQ(peeked.header.msg_flags, MSG_TRUNC);
  CHECK_EQ(recvmsg(pair[1], &in.header, 0), 4);
  CHECK_EQ(in.header.msg_flags, MSG_TRUNC);
  CHECK_EQ(std::string(in.data), "a lo");
  int first = -1, second = -1;
  REQUIRE(peeked.received(SCM_RIGHTS, &first) && in.received(SCM_RIGHTS, &second));
  CHECK(first != second);  // looking gives descriptors, too
  CHECK_EQ(write(first, "1", 1), 1);
  CHECK_EQ(write(second, "2", 1), 1);
  close(first);
  close(second);
  char buffer[4] = {};
  CHECK_EQ(read(channel[0], buffer, 2), 2);
  CHECK_EQ(std::string(buffer), "12");
  CHECK_EQ(read(channel[0], buffer, 1), 0);  // no copy is left anywhere
}

CASE(descriptors_end_a_read_of_a_stream) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  Message out("with", SCM_RIGHTS, pair[0]);
  CHECK_EQ(write(pair[0], "before", 6), 6);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 4);
  CHECK_EQ(write(pair[0], "after", 5), 5);
  Message in;
  CHECK_EQ(recvmsg(pair[1], &in.header, 0), 10);
  CHECK_EQ(std::string(in.data, 10), "beforewith");
  int passed = -1;
  CHECK(in.received(SCM_RIGHTS, &passed));
  Message rest;
  CHECK_EQ(recvmsg(pair[1], &rest.header, 0), 5);
  CHECK_EQ(rest.header.msg_controllen, 0);
}

CASE(descriptors_that_find_no_room) {
  int pair[2];
  make_pair(SOCK_STREAM, pair);
  Message out("x", SCM_RIGHTS, pair);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 1);
  CHECK_EQ(sendmsg(pair[0], &out.header, 0), 1);
  Message in(1), without(1);
  in.header.msg_controllen = CMSG_LEN(sizeof(int));  // room for one of two
  CHECK_EQ(recvmsg(pair[1], &in.header, MSG_CMSG_CLOEXEC), 1);
  CHECK_EQ(in.header.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
  int passed = -1;
  REQUIRE(in.received(SCM_RIGHTS, &passed));
  CHECK_EQ(fcntl(passed, F_GETFD), FD_CLOEXEC);
  without.header.msg_control = nullptr;
  without.header.msg_controllen = 0;
  CHECK_EQ(recvmsg(pair[1], &without.header, 0), 1);  // the descriptors are lost
  CHECK_EQ(without.header.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
}
