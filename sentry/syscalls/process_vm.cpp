// process_vm_readv(2) and process_vm_writev(2). Both memories are pinned, and bytes go through a
// buffer of the Sentry, since either guest may change its own meanwhile.
#include <array>
#include <climits>
#include <memory>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/process.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

using mm::Access;

constexpr size_t kMaxVectors = 1024;  // UIO_MAXIOV
constexpr size_t kChunk = size_t{64} * 1024;

// mm/process_vm_access.c: process_vm_rw_core reports a refusal as EPERM.
Result<Ref<mm::MemoryManager>> memory_of(Task& task, pid_t pid) {
  const Ref<Task> target = task.kernel().find_task(pid);
  if (!target) return Errno::kSrch;
  Ref<mm::MemoryManager> memory = target->resources().mm;
  if (!memory) return Errno::kSrch;
  if (!kernel::may_inspect(*target, kernel::InspectAs::kReal).ok()) return Errno::kPerm;
  return memory;
}

// Moves bytes until one side has no more; EFAULT when the first cannot be touched.
Result<uint64_t> move(IoBuffers& from, IoBuffers& to) {
  const auto buffer = std::make_unique<std::array<std::byte, kChunk>>();
  uint64_t done = 0;
  while (!from.empty() && !to.empty()) {
    const size_t want = std::min({kChunk, from.remaining(), to.remaining()});
    const auto got = from.take(std::span(*buffer).first(want));
    if (!got.ok()) return done > 0 ? Result<uint64_t>(done) : Result<uint64_t>(got.error());
    const auto put = to.put(std::span(*buffer).first(*got));
    if (!put.ok()) return done > 0 ? Result<uint64_t>(done) : Result<uint64_t>(put.error());
    done += *put;
    if (*put < want) break;
  }
  return done;
}

// One remote range; less than its length ends the call.
Result<uint64_t> move_range(mm::MemoryManager& memory, const iovec& range, IoBuffers& local,
                            Access remote_access) {
  const size_t size = std::min(range.iov_len, local.remaining());
  const auto addr = reinterpret_cast<uint64_t>(range.iov_base);
  const mm::Pinned pinned = TRY(memory.pin(addr, size, remote_access));
  IoBuffers remote = pinned.buffers();
  return remote_access == Access::kRead ? move(remote, local) : move(local, remote);
}

Result<uint64_t> transfer(Task& task, pid_t pid, UserIn<iovec> local_vector, uint64_t local_count,
                          UserIn<iovec> remote_vector, uint64_t remote_count, uint64_t flags,
                          Access remote_access) {
  if (flags != 0 || local_count > kMaxVectors || remote_count > kMaxVectors) return Errno::kInval;
  const Access local_access = remote_access == Access::kRead ? Access::kWrite : Access::kRead;
  const mm::Pinned pinned = TRY(task.mm().pin_iovec(local_vector.addr, local_count, local_access));
  IoBuffers local = pinned.buffers();
  if (local.empty()) return uint64_t{0};
  const std::vector<iovec> ranges = TRY(task.mm().read_array(remote_vector, remote_count));
  for (const iovec& range : ranges) {
    if (range.iov_len > SSIZE_MAX) return Errno::kInval;
  }
  const Ref<mm::MemoryManager> memory = TRY(memory_of(task, pid));
  uint64_t done = 0;
  for (const iovec& range : ranges) {
    if (local.empty()) break;
    if (range.iov_len == 0) continue;
    const size_t wanted = std::min(range.iov_len, local.remaining());
    const auto moved = move_range(*memory, range, local, remote_access);
    if (!moved.ok()) return done > 0 ? Result<uint64_t>(done) : Result<uint64_t>(moved.error());
    done += *moved;
    if (*moved < wanted) break;
  }
  return done;
}

}  // namespace

Result<uint64_t> sys_process_vm_readv(Task& task, Pid pid, UserIn<iovec> local, ULong local_count,
                                      UserIn<iovec> remote, ULong remote_count, ULong flags) {
  return transfer(task, pid.value, local, local_count.value, remote, remote_count.value,
                  flags.value, Access::kRead);
}

Result<uint64_t> sys_process_vm_writev(Task& task, Pid pid, UserIn<iovec> local, ULong local_count,
                                       UserIn<iovec> remote, ULong remote_count, ULong flags) {
  return transfer(task, pid.value, local, local_count.value, remote, remote_count.value,
                  flags.value, Access::kWrite);
}

}  // namespace boxrun::syscalls
