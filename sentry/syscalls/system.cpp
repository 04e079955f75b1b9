#include "sentry/syscalls/system.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/random.h>

#include <array>
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/support.h"

namespace boxrun::syscalls {
namespace {

constexpr size_t kNameMax = 64;  // __NEW_UTS_LEN

void put(char (&field)[kNameMax + 1], std::string_view text) {
  memcpy(field, text.data(), std::min(text.size(), kNameMax));
}

Result<std::string> copy_name(Task& task, UserIn<Bytes> name, int size) {
  if (!task.cred().has_capability(CAP_SYS_ADMIN)) return Errno::kPerm;
  if (size < 0 || static_cast<size_t>(size) > kNameMax) return Errno::kInval;
  std::string text(static_cast<size_t>(size), '\0');
  TRY(task.mm().copy_in(name.addr, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace

Result<uint64_t> sys_uname(Task& task, UserOut<utsname> out) {
  utsname u{};
  put(u.sysname, "Linux");
  put(u.nodename, task.kernel().hostname());
  // What the Sentry's system calls amount to; programs choose features by it.
  put(u.release, "6.1.0-boxrun");
  put(u.version, "#1 SMP PREEMPT_DYNAMIC boxrun");
  put(u.machine, "x86_64");
  put(u.domainname, task.kernel().domainname());
  return zero(task.mm().write(out, u));
}

Result<uint64_t> sys_sysinfo(Task& task, UserOut<struct sysinfo> out) {
  const mm::MemoryFile& memory = task.kernel().memory_file();
  struct sysinfo info {};
  info.uptime = task.kernel().clock().boottime() / kSecond;
  info.totalram = memory.limit();
  info.freeram = memory.available();
  info.mem_unit = 1;
  {
    kernel::TreeLock tree(task.kernel().tree());
    info.procs = static_cast<unsigned short>(
        std::min<size_t>(task.kernel().pids().task_count(tree), UINT16_MAX));
  }
  return zero(task.mm().write(out, info));
}

Result<uint64_t> sys_getrandom(Task& task, UserOut<Bytes> buffer, Size size, Unsigned flags) {
  constexpr uint32_t kKnown = GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE;
  constexpr uint32_t kBoth = GRND_RANDOM | GRND_INSECURE;
  if ((flags.value & ~kKnown) != 0 || (flags.value & kBoth) == kBoth) return Errno::kInval;
  const mm::Pinned pinned =
      TRY(task.mm().pin(buffer.addr, std::min(size.value, kMaxTransfer), mm::Access::kWrite));
  IoBuffers to = pinned.buffers();
  std::array<std::byte, 4096> chunk;
  uint64_t done = 0;
  while (!to.empty()) {
    const size_t n = std::min(to.remaining(), chunk.size());
    if (getrandom(chunk.data(), n, 0) != static_cast<ssize_t>(n)) return last_error();
    const auto put = to.put(std::span(chunk).first(n));
    if (!put.ok()) return done > 0 ? Result<uint64_t>(done) : Result<uint64_t>(put.error());
    done += *put;
  }
  return done;
}

Result<uint64_t> sys_getcpu(Task& task, UserOut<unsigned> cpu, UserOut<unsigned> node, Address) {
  const int here = sched_getcpu();
  if (cpu) TRY(task.mm().write(cpu, here < 0 ? 0u : static_cast<unsigned>(here)));
  if (node) TRY(task.mm().write(node, 0u));
  return uint64_t{0};
}

Result<uint64_t> sys_sethostname(Task& task, UserIn<Bytes> name, Int size) {
  task.kernel().set_hostname(TRY(copy_name(task, name, size.value)));
  return uint64_t{0};
}
Result<uint64_t> sys_setdomainname(Task& task, UserIn<Bytes> name, Int size) {
  task.kernel().set_domainname(TRY(copy_name(task, name, size.value)));
  return uint64_t{0};
}

// There is a kernel log, and it is empty. SYSLOG_ACTION_SIZE_BUFFER tells its size.
Result<uint64_t> sys_syslog(Task& task, Int type, UserOut<Bytes> buffer, Int size) {
  constexpr int kReadAll = 3, kSizeUnread = 9, kSizeBuffer = 10;
  if (type.value < 0 || type.value > kSizeBuffer) return Errno::kInval;
  if (!task.cred().has_capability(CAP_SYSLOG)) return Errno::kPerm;
  if (type.value == kReadAll && (!buffer || size.value < 0)) return Errno::kInval;
  if (type.value == kSizeUnread) return uint64_t{0};
  return type.value == kSizeBuffer ? uint64_t{1 << 14} : uint64_t{0};
}

// A refusal, which callers are required to handle: MEMBARRIER_CMD_QUERY says that nothing is
// supported (membarrier(2)).
Result<uint64_t> sys_membarrier(Task&, Int command, Unsigned flags, Int) {
  if (flags.value != 0) return Errno::kInval;
  if (command.value == MEMBARRIER_CMD_QUERY) return uint64_t{0};
  return Errno::kInval;
}

}  // namespace boxrun::syscalls
