#include "sentry/syscalls/mm.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>

#include <vector>

#include "sentry/syscalls/support.h"
#include "src/base/range.h"

namespace boxrun::syscalls {
namespace {

using mm::Prot;

constexpr uint64_t kProtBits = PROT_READ | PROT_WRITE | PROT_EXEC;

Prot to_prot(uint64_t prot) { return static_cast<Prot>(prot & kProtBits); }

// What MAP_SHARED_VALIDATE accepts; other types ignore unknown flags (mm/mmap.c: do_mmap).
constexpr uint64_t kKnownFlags = MAP_SHARED | MAP_PRIVATE | MAP_SHARED_VALIDATE | MAP_FIXED |
                                 MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE |
                                 MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK |
                                 MAP_STACK | MAP_HUGETLB | MAP_FIXED_NOREPLACE | MAP_32BIT;

// Attaches the file behind `fd` to the request and checks it against the access mode
// (mm/mmap.c: do_mmap).
Result<void> map_file(Task& task, Fd fd, uint64_t prot, mm::MapRequest& request) {
  const auto file = TRY(task.fds().get(fd.value));
  if (!file->readable()) return Errno::kAcces;
  if (request.shared && !file->writable()) {
    if ((prot & PROT_WRITE) != 0) return Errno::kAcces;
    request.max_prot = Prot::kRead | Prot::kExec;
  }
  if (file->path().mount && file->path().mount->has(vfs::MountFlags::kNoExec)) {
    if ((prot & PROT_EXEC) != 0) return Errno::kPerm;
    request.max_prot = request.max_prot & (Prot::kRead | Prot::kWrite);
  }
  request.source = TRY(file->map());
  request.opened = file;
  return {};
}

Result<bool> is_shared(uint64_t flags) {
  switch (flags & MAP_TYPE) {
    case MAP_PRIVATE:
      return false;
    case MAP_SHARED:
      return true;
    case MAP_SHARED_VALIDATE:
      if ((flags & ~kKnownFlags) != 0) return Errno::kOpNotSupp;
      return true;
    default:
      return Errno::kInval;
  }
}

}  // namespace

Result<uint64_t> sys_mmap(Task& task, Address addr, Size length, MapProt prot, MapFlags flags,
                          Fd fd, Offset offset) {
  const auto start = static_cast<uint64_t>(offset.value);
  if (!page_aligned(start) || length.value == 0) return Errno::kInval;
  mm::MapRequest request;
  request.addr = addr.value;
  request.length = length.value;
  request.prot = to_prot(prot.value);
  request.shared = TRY(is_shared(flags.value));
  request.grows_down = (flags.value & MAP_GROWSDOWN) != 0;
  request.populate = (flags.value & MAP_POPULATE) != 0;
  request.locked = (flags.value & MAP_LOCKED) != 0;
  request.noreserve = (flags.value & MAP_NORESERVE) != 0;
  if ((flags.value & MAP_FIXED_NOREPLACE) != 0) {
    request.placement = mm::MapRequest::Placement::kFixedNoReplace;
  } else if ((flags.value & MAP_FIXED) != 0) {
    request.placement = mm::MapRequest::Placement::kFixed;
  } else if ((flags.value & MAP_32BIT) != 0) {
    request.placement = mm::MapRequest::Placement::kBelow2G;
  }
  // Huge pages of hugetlbfs have to be set aside by an administrator; none are.
  if ((flags.value & MAP_HUGETLB) != 0) return Errno::kNoMem;
  if ((flags.value & MAP_ANONYMOUS) == 0) {
    request.offset = start;
    const auto file_range = Range::make(start, length.value);
    if (!file_range || file_range->end > INT64_MAX) return Errno::kOverflow;
    TRY(map_file(task, fd, prot.value, request));
  }
  return task.mm().map(request, task.memory_limits());
}

Result<uint64_t> sys_munmap(Task& task, Address addr, Size length) {
  return zero(task.mm().unmap(addr.value, length.value));
}

Result<uint64_t> sys_mprotect(Task& task, Address addr, Size length, MapProt prot) {
  const uint64_t grows = prot.value & (PROT_GROWSDOWN | PROT_GROWSUP);
  if (grows == (PROT_GROWSDOWN | PROT_GROWSUP)) return Errno::kInval;
  if ((prot.value & ~(kProtBits | PROT_GROWSDOWN | PROT_GROWSUP)) != 0) return Errno::kInval;
  // Nothing grows up on x86-64.
  if (grows == PROT_GROWSUP) return Errno::kInval;
  return zero(
      task.mm().protect(addr.value, length.value, to_prot(prot.value), grows == PROT_GROWSDOWN));
}

// As on a CPU without protection keys: only the key -1 exists.
Result<uint64_t> sys_pkey_mprotect(Task& task, Address addr, Size length, MapProt prot, Int key) {
  if (key.value != -1) return Errno::kInval;
  return sys_mprotect(task, addr, length, prot);
}

Result<uint64_t> sys_mremap(Task& task, Address addr, Size old_size, Size new_size, Int flags,
                            Address new_addr) {
  return task.mm().remap(addr.value, old_size.value, new_size.value, flags.value, new_addr.value,
                         task.memory_limits());
}

Result<uint64_t> sys_brk(Task& task, Address addr) {
  const uint64_t brk = task.mm().set_break(addr.value, task.memory_limits());
  // A refusal is no error, but the old break (brk(2)).
  if (brk < addr.value) report_limit(task, Errno::kNoMem);
  return brk;
}

Result<uint64_t> sys_madvise(Task& task, Address addr, Size length, Int advice) {
  return zero(task.mm().advise(addr.value, length.value, advice.value));
}

Result<uint64_t> sys_msync(Task& task, Address addr, Size length, Int flags) {
  return zero(task.mm().sync(addr.value, length.value, flags.value));
}

Result<uint64_t> sys_mincore(Task& task, Address addr, Size length, UserOut<Bytes> residency) {
  if (!page_aligned(addr.value)) return Errno::kInval;
  // One byte a page: a bounded piece at a time, as Linux does.
  constexpr uint64_t kPiece = 4096 * kPageSize;
  const auto whole = Range::make(addr.value, length.value);
  if (!whole) return Errno::kNoMem;
  uint64_t out = residency.addr;
  for (uint64_t at = whole->start; at < whole->end; at += kPiece) {
    std::vector<uint8_t> pages;
    TRY(task.mm().resident(at, std::min(kPiece, whole->end - at), pages));
    TRY(task.mm().copy_out(out, std::as_bytes(std::span(pages))));
    out += pages.size();
  }
  return uint64_t{0};
}

Result<uint64_t> sys_mlock(Task& task, Address addr, Size length) {
  return zero(task.mm().lock(addr.value, length.value, task.memory_limits()));
}
Result<uint64_t> sys_mlock2(Task& task, Address addr, Size length, Int flags) {
  if ((flags.value & ~MLOCK_ONFAULT) != 0) return Errno::kInval;
  return sys_mlock(task, addr, length);
}
Result<uint64_t> sys_munlock(Task& task, Address addr, Size length) {
  return zero(task.mm().unlock(addr.value, length.value));
}

// Guest memory is the Sentry's to place; what a program can see of mlockall is its limit.
Result<uint64_t> sys_mlockall(Task& task, Int flags) {
  constexpr int kKnown = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
  if (flags.value == 0 || (flags.value & ~kKnown) != 0 || flags.value == MCL_ONFAULT) {
    return Errno::kInval;
  }
  if (task.cred().has_capability(CAP_IPC_LOCK)) return uint64_t{0};
  const uint64_t limit = task.memory_limits().memlock;
  if (limit == 0) return Errno::kPerm;
  if ((flags.value & MCL_CURRENT) != 0 && task.mm().usage().virtual_bytes > limit) {
    return Errno::kNoMem;
  }
  return uint64_t{0};
}
Result<uint64_t> sys_munlockall(Task&) { return uint64_t{0}; }

// One NUMA node, number 0: every valid policy means the same.
Result<uint64_t> sys_mbind(Task&, Address addr, ULong, ULong mode, UserIn<Bytes>, ULong,
                           Unsigned flags) {
  constexpr uint64_t kModeFlags = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
  if (!page_aligned(addr.value) || (mode.value & ~kModeFlags) >= MPOL_MAX ||
      (flags.value & ~uint32_t{MPOL_MF_STRICT | MPOL_MF_MOVE}) != 0) {
    return Errno::kInval;
  }
  return uint64_t{0};
}
Result<uint64_t> sys_set_mempolicy(Task&, Int mode, UserIn<Bytes>, ULong) {
  constexpr int kModeFlags = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
  if (mode.value < 0 || (mode.value & ~kModeFlags) >= MPOL_MAX) return Errno::kInval;
  return uint64_t{0};
}
Result<uint64_t> sys_get_mempolicy(Task& task, UserOut<int> mode, UserOut<Bytes> mask,
                                   ULong max_node, Address addr, ULong flags) {
  constexpr uint64_t kKnown = MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED;
  if ((flags.value & ~kKnown) != 0) return Errno::kInval;
  if ((flags.value & MPOL_F_ADDR) == 0 && addr.value != 0) return Errno::kInval;
  if (mode) TRY(task.mm().write(mode, int{MPOL_DEFAULT}));
  if (mask) {
    const uint64_t bytes = std::min<uint64_t>((max_node.value + 63) / 64 * 8, 128);
    if (bytes == 0) return Errno::kInval;
    std::vector<std::byte> nodes(bytes);
    if ((flags.value & MPOL_F_MEMS_ALLOWED) != 0) nodes[0] = std::byte{1};
    TRY(task.mm().copy_out(mask.addr, nodes));
  }
  return uint64_t{0};
}

}  // namespace boxrun::syscalls
