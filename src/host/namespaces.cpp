#include "src/host/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "src/host/caps.h"

namespace boxrun::host {
namespace {

constexpr std::array<std::pair<Layer, uint64_t>, 6> kCloneFlags = {{
    {Layer::kUserNamespace, CLONE_NEWUSER},
    {Layer::kMountNamespace, CLONE_NEWNS},
    {Layer::kPidNamespace, CLONE_NEWPID},
    {Layer::kNetNamespace, CLONE_NEWNET},
    {Layer::kIpcNamespace, CLONE_NEWIPC},
    {Layer::kUtsNamespace, CLONE_NEWUTS},
}};

LayerSet without(LayerSet set, Layer layer) {
  set.remove(layer);
  return set;
}

Result<void> write_file(const std::string& path, std::string_view text) {
  const UniqueFd fd = TRY(own_fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC)));
  // The kernel takes an id map in exactly one write (user_namespaces(7)).
  if (::write(fd.get(), text.data(), text.size()) < 0) return last_error();
  return {};
}

struct IdRange {
  uint32_t first;
  uint32_t count;
};

// The ids that exist here, from the lines of /proc/self/uid_map: inside, outside, count.
Result<std::vector<IdRange>> ids_here(const char* path) {
  const UniqueFd fd = TRY(own_fd(::open(path, O_RDONLY | O_CLOEXEC)));
  std::array<char, 4096> buffer;
  const ssize_t size = TRY(host_result(::read(fd.get(), buffer.data(), buffer.size())));
  std::string_view rest(buffer.data(), static_cast<size_t>(size));
  std::vector<IdRange> ranges;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;  // cut by the buffer: the lines so far still are ours
    const char* at = rest.data();
    const char* const line_end = at + end;
    std::array<uint32_t, 3> numbers{};
    for (uint32_t& number : numbers) {
      while (at < line_end && *at == ' ') at++;
      const auto parsed = std::from_chars(at, line_end, number);
      if (parsed.ec != std::errc()) return Errno::kIo;
      at = parsed.ptr;
    }
    ranges.push_back({numbers[0], numbers[2]});
    rest.remove_prefix(end + 1);
  }
  return ranges;
}

// A map with the ids inside on both sides: the identity on all we have.
Result<std::string> identity_map(const char* path) {
  std::string map;
  for (const IdRange& range : TRY(ids_here(path))) {
    const std::string inside = std::to_string(range.first);
    map.append(inside).append(" ").append(inside).append(" ");
    map.append(std::to_string(range.count)).append("\n");
  }
  return map;
}

std::optional<uint32_t> unless_taken(uint32_t id, const char* map) {
  const Result<std::vector<IdRange>> ids = ids_here(map);
  if (!ids) return id;
  const bool taken = std::ranges::any_of(*ids, [id](const IdRange& range) {
    return id >= range.first && id - range.first < range.count;
  });
  return taken ? std::nullopt : std::optional(id);
}

// By the parent, whose capabilities decide (user_namespaces(7), "Defining user and group ID
// mappings").
Result<void> map_all_ids(pid_t child) {
  const std::string folder = "/proc/" + std::to_string(child);
  TRY(write_file(folder + "/uid_map", TRY(identity_map("/proc/self/uid_map"))));
  return write_file(folder + "/gid_map", TRY(identity_map("/proc/self/gid_map")));
}

// By the child itself, which needs no capability for one id.
Result<void> map_own_ids(uid_t uid, gid_t gid) {
  const std::string user = std::to_string(uid);
  const std::string group = std::to_string(gid);
  TRY(write_file("/proc/self/uid_map", user + " " + user + " 1\n"));
  // Without this an ordinary user could drop a group that files deny access to.
  TRY(write_file("/proc/self/setgroups", "deny"));
  return write_file("/proc/self/gid_map", group + " " + group + " 1\n");
}

bool may_map_all_ids() {
  constexpr std::array<int, 2> kNeeded = {CAP_SETUID, CAP_SETGID};
  return has_capabilities(kNeeded);
}

// fork(2) with namespace flags. glibc's fork takes none, so the raw call has to do what glibc
// would: store the child's id where glibc caches it, which the kernel tells us where it can.
pid_t raw_fork(uint64_t flags, int* pidfd) {
  int* tid_cache = nullptr;
  if (::prctl(PR_GET_TID_ADDRESS, &tid_cache) == 0 && tid_cache != nullptr) {
    flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
  }
  return static_cast<pid_t>(
      ::syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, nullptr, pidfd, tid_cache, 0));
}

// The sets to try in turn: what is wanted, then less and less. The network namespace alone may be
// at its limit; a privileged caller may have all but the user namespace.
std::vector<LayerSet> attempts(LayerSet wanted) {
  std::vector<LayerSet> sets = {wanted, without(wanted, Layer::kNetNamespace),
                                without(wanted, Layer::kUserNamespace), LayerSet()};
  if (::access("/proc/self/uid_map", W_OK) != 0)
    sets = {without(wanted, Layer::kUserNamespace), LayerSet()};
  return sets;
}

struct Attempt {
  pid_t pid;
  int pidfd;
  LayerSet namespaces;
};

Result<Attempt> fork_with_the_most(LayerSet wanted) {
  Errno error = Errno::kOk;
  LayerSet tried;
  for (const LayerSet set : attempts(wanted)) {
    if (error != Errno::kOk && set == tried) continue;
    uint64_t flags = 0;
    for (const auto& [layer, flag] : kCloneFlags) flags |= set.has(layer) ? flag : 0;
    int pidfd = -1;
    const pid_t pid = raw_fork(flags, &pidfd);
    if (pid >= 0) return Attempt{pid, pidfd, set};
    error = last_error();
    tried = set;
  }
  return error;
}

// `ids` becomes what was mapped in the end.
MaybeFailure map_ids_in_child(IdMap& ids, int go_ahead, uid_t uid, gid_t gid) {
  char parent_mapped = 0;
  if (ids == IdMap::kAll && ::read(go_ahead, &parent_mapped, 1) != 1) {
    return Failure{"wait for the id map", "user namespace", last_error(), ""};
  }
  if (parent_mapped != 0) return std::nullopt;
  ids = IdMap::kOwn;
  if (const Result<void> mapped = map_own_ids(uid, gid); !mapped) {
    return Failure{"map the user and group ids", "user namespace", mapped.error(), ""};
  }
  return std::nullopt;
}

}  // namespace

UnmappedIds unmapped_ids(IdMap ids) {
  constexpr uint32_t kOverflow = 65534;  // the default of /proc/sys/kernel/overflowuid
  if (ids == IdMap::kAll) {
    return {unless_taken(kOverflow, "/proc/self/uid_map"),
            unless_taken(kOverflow, "/proc/self/gid_map")};
  }
  UnmappedIds unmapped;
  if (::geteuid() != kOverflow) unmapped.uid = kOverflow;
  if (::getegid() != kOverflow) unmapped.gid = kOverflow;
  return unmapped;
}

Result<Forked> fork_into_namespaces(const NamespaceRequest& request) {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  const IdMap ids = may_map_all_ids() ? request.ids : IdMap::kOwn;
  std::array<int, 2> ends{-1, -1};
  if (ids == IdMap::kAll && ::pipe2(ends.data(), O_CLOEXEC) < 0) return last_error();
  UniqueFd wait_end(ends[0]);
  UniqueFd go_end(ends[1]);

  const Attempt attempt = TRY(fork_with_the_most(request.wanted));
  Forked forked;
  forked.pid = attempt.pid;
  forked.namespaces = attempt.namespaces;
  const bool new_user = attempt.namespaces.has(Layer::kUserNamespace);
  if (forked.in_child()) {
    go_end.reset();
    if (!new_user) return forked;
    forked.ids = ids;
    forked.failure = map_ids_in_child(forked.ids, wait_end.get(), uid, gid);
    return forked;
  }
  forked.pidfd.reset(attempt.pidfd);
  if (new_user) forked.ids = ids;
  if (new_user && ids == IdMap::kAll) {
    const char mapped = map_all_ids(attempt.pid).ok() ? 1 : 0;
    if (mapped == 0) forked.ids = IdMap::kOwn;
    // A child that is gone already shows as a broken pipe here and as an exit to the caller.
    static_cast<void>(::write(go_end.get(), &mapped, 1) == 1);
  }
  return forked;
}

}  // namespace boxrun::host
