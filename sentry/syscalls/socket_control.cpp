#include "sentry/syscalls/socket_control.h"

#include <linux/capability.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "sentry/kernel/task.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr size_t kMaxControl = 20480;  // net.core.optmem_max
constexpr size_t kMaxFiles = 253;      // SCM_MAX_FD

// net/core/scm.c: scm_check_creds, __scm_send.
Result<ucred> check_credentials(Task& task, std::span<const std::byte> data) {
  ucred wanted{};
  if (data.size() != sizeof wanted) return Errno::kInval;
  memcpy(&wanted, data.data(), sizeof wanted);
  const Credentials& who = task.cred();
  const auto one_of = [](uint32_t id, uint32_t a, uint32_t b, uint32_t c) {
    return id == a || id == b || id == c;
  };
  const bool pid = wanted.pid == task.tgid() || who.has_capability(CAP_SYS_ADMIN);
  const bool uid =
      one_of(wanted.uid, who.ruid, who.euid, who.suid) || who.has_capability(CAP_SETUID);
  const bool gid =
      one_of(wanted.gid, who.rgid, who.egid, who.sgid) || who.has_capability(CAP_SETGID);
  if (!pid || !uid || !gid) return Errno::kPerm;
  if (wanted.pid == task.tgid()) return wanted;
  if (wanted.pid <= 0 || !find_task(task, wanted.pid).ok()) return Errno::kSrch;
  return wanted;
}

Result<void> add_files(Task& task, std::span<const std::byte> data, net::Outgoing& out) {
  const size_t count = data.size() / sizeof(int);
  if (count > kMaxFiles - out.files.size()) return Errno::kInval;
  for (size_t i = 0; i < count; i++) {
    int fd = -1;
    memcpy(&fd, &data[i * sizeof fd], sizeof fd);
    out.files.push_back(TRY(task.fds().get_raw(fd)));
  }
  return {};
}

// Appends one control message as far as it fits (net/core/scm.c: put_cmsg).
class ControlWriter {
 public:
  explicit ControlWriter(size_t room) : room_(std::min(room, kMaxControl)) {}

  bool add(int type, std::span<const std::byte> data) {
    const size_t left = room_ - bytes_.size();
    if (left < sizeof(cmsghdr)) return false;
    const size_t length = std::min(CMSG_LEN(data.size()), left);
    cmsghdr header{};
    header.cmsg_len = length;
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = type;
    const auto head = bytes_of(header);
    bytes_.insert(bytes_.end(), head.begin(), head.end());
    const auto part = data.first(length - sizeof header);
    bytes_.insert(bytes_.end(), part.begin(), part.end());
    bytes_.resize(std::min(room_, bytes_.size() + CMSG_SPACE(data.size()) - CMSG_LEN(data.size())));
    return part.size() == data.size();
  }
  // How many descriptors a message here could hold (scm_max_fds).
  size_t room_for_files() const {
    const size_t left = room_ - bytes_.size();
    return left <= sizeof(cmsghdr) ? 0 : (left - sizeof(cmsghdr)) / sizeof(int);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  const size_t room_;
  std::vector<std::byte> bytes_;
};

// net/core/scm.c: scm_detach_fds. Descriptors that do not fit are closed.
bool install_files(Task& task, net::Incoming& in, bool close_on_exec, ControlWriter& control) {
  const size_t room = std::min(control.room_for_files(), in.files.size());
  const auto on_exec = on_exec_of(close_on_exec ? O_CLOEXEC : 0);
  std::vector<int> fds;
  while (fds.size() < room) {
    const auto fd = task.fds().install(in.files[fds.size()], on_exec, open_file_limit(task));
    if (!fd.ok()) break;
    fds.push_back(*fd);
  }
  if (!fds.empty()) (void)control.add(SCM_RIGHTS, std::as_bytes(std::span(fds)));
  return fds.size() == in.files.size();
}

}  // namespace

Result<void> read_control(Task& task, const msghdr& header, net::Outgoing& out) {
  if (header.msg_controllen == 0) return {};
  if (header.msg_controllen > kMaxControl) return Errno::kNoBufs;
  std::vector<std::byte> control(header.msg_controllen);
  TRY(task.mm().copy_in(reinterpret_cast<uint64_t>(header.msg_control), control));
  std::span<const std::byte> rest(control);
  while (rest.size() >= sizeof(cmsghdr)) {
    cmsghdr one{};
    memcpy(&one, rest.data(), sizeof one);
    if (one.cmsg_len < sizeof one || one.cmsg_len > rest.size()) return Errno::kInval;
    const auto data = rest.subspan(sizeof one, one.cmsg_len - sizeof one);
    if (one.cmsg_level == SOL_SOCKET) {
      switch (one.cmsg_type) {
        case SCM_RIGHTS:
          TRY(add_files(task, data, out));
          break;
        case SCM_CREDENTIALS:
          out.credentials = TRY(check_credentials(task, data));
          break;
        default:
          return Errno::kInval;
      }
    }
    rest = rest.subspan(std::min(CMSG_ALIGN(one.cmsg_len), rest.size()));
  }
  return {};
}

Result<void> write_control(Task& task, net::Incoming& in, bool close_on_exec, msghdr& header) {
  ControlWriter control(header.msg_control != nullptr ? header.msg_controllen : 0);
  bool complete = true;
  if (in.credentials) complete = control.add(SCM_CREDENTIALS, bytes_of(*in.credentials));
  if (!in.files.empty() && !install_files(task, in, close_on_exec, control)) complete = false;
  if (!complete) header.msg_flags |= MSG_CTRUNC;
  header.msg_controllen = control.bytes().size();
  if (control.bytes().empty()) return {};
  return task.mm().copy_out(reinterpret_cast<uint64_t>(header.msg_control), control.bytes());
}

}  // namespace boxrun::syscalls
