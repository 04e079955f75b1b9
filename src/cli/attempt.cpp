#include "src/cli/attempt.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "src/base/fd.h"

namespace boxrun::cli {
namespace {

// In milliseconds: a hundred times what an attempt takes.
constexpr int kPatience = 5000;

host::StartMessage no_answer(Errno error) {
  return {Failure{"try something out in a child process", "boxrun", error, {}}, {}, {}};
}

}  // namespace

host::StartMessage attempt_in_child(const std::function<host::StartMessage()>& attempt) {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
    return no_answer(last_error());
  UniqueFd ours(sockets[0]);
  UniqueFd theirs(sockets[1]);
  const pid_t child = ::fork();
  if (child < 0) return no_answer(last_error());
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ours.reset();
    (void)host::send_start_message(theirs.get(), attempt());
    ::_exit(0);
  }
  theirs.reset();
  pollfd answer{ours.get(), POLLIN, 0};
  int ready = 0;
  while ((ready = ::poll(&answer, 1, kPatience)) < 0 && errno == EINTR) {
  }
  Result<host::StartMessage> message =
      ready == 1 ? host::receive_start_message(ours.get()) : Errno::kTimedOut;
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return message.ok() ? std::move(message).take() : no_answer(message.error());
}

}  // namespace boxrun::cli
