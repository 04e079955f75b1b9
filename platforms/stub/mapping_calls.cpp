#include "platforms/stub/mapping_calls.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

namespace boxrun::platform {
namespace {

uint64_t host_prot(Prot prot) {
  static_assert(static_cast<int>(Prot::kRead) == PROT_READ &&
                static_cast<int>(Prot::kWrite) == PROT_WRITE &&
                static_cast<int>(Prot::kExec) == PROT_EXEC);
  return static_cast<uint64_t>(prot);
}

}  // namespace

MappingCalls plan_mapping_calls(std::span<const Op> ops, const RangeSet& mapped, FileTable& files) {
  MappingCalls plan;
  plan.calls.reserve(ops.size());
  // What will be mapped once the calls before are done; for kProtect only.
  std::optional<RangeSet> planned;
  if (ops.size() > 1 &&
      std::ranges::any_of(ops, [](const Op& op) { return op.kind == Op::Kind::kProtect; })) {
    planned = mapped;
  }
  for (const Op& op : ops) {
    const uint64_t start = op.guest.start;
    switch (op.kind) {
      case Op::Kind::kMap: {
        Result<FileTable::Use> file = files.use(op.host_fd);
        if (!file.ok()) {
          plan.error = file.error();
          return plan;
        }
        plan.calls.push_back({SYS_mmap,
                              {start, op.guest.size(), host_prot(op.prot), kGuestMapFlags,
                               static_cast<uint64_t>(file->number()), op.offset}});
        plan.files.push_back(std::move(file).take());
        if (planned) planned->add(op.guest);
        break;
      }
      case Op::Kind::kProtect:
        // mprotect(2) stops at the first hole; the contract is to skip them.
        for (const Range part : (planned ? *planned : mapped).parts(op.guest)) {
          plan.calls.push_back({SYS_mprotect, {part.start, part.size(), host_prot(op.prot)}});
        }
        break;
      case Op::Kind::kUnmap:
        plan.calls.push_back({SYS_munmap, {start, op.guest.size()}});
        if (planned) planned->remove(op.guest);
        break;
    }
  }
  return plan;
}

void note_mapping_calls(std::span<const StubCall> done, RangeSet& mapped) {
  for (const StubCall& call : done) {
    const Range range{call.args[0], call.args[0] + call.args[1]};
    if (call.number == SYS_mmap) mapped.add(range);
    if (call.number == SYS_munmap) mapped.remove(range);
  }
}

}  // namespace boxrun::platform
