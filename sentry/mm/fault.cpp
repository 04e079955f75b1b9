// A fault is resolved in rounds. A round runs under the lock and changes one step of memory; when
// it needs pages of a source, it says so, the lock is released, the source is asked, and what it
// gave is installed if nothing was invalidated meanwhile.
#include "sentry/mm/memory_manager_impl.h"

#include <algorithm>
#include <bit>

#include "src/base/bytes.h"
#include "src/base/file_status.h"

namespace boxrun::mm {

namespace {

// Rounds of one fault. Each ends with progress of this or another thread, so a few are enough.
constexpr int kMaxRounds = 32;
// Threads of one process that fault on pages that are there, before the oldest is forgotten.
constexpr size_t kMostReinstalled = 64;
// How much memory that is ours alone again becomes writable at once.
constexpr uint64_t kTakeBack = 2 << 20;

bool permits(const Vma& vma, Access access) {
  switch (access) {
    case Access::kWrite:
      return vma.writable();
    case Access::kExecute:
      return has(vma.prot, Prot::kExec);
    case Access::kRead:
    case Access::kUnknown:
      return vma.prot != Prot::kNone;
  }
  return false;
}

// FOLL_FORCE of mm/gup.c: reads what could be made readable; writes only to private memory.
bool permits_force(const Vma& vma, Access access) {
  if (permits(vma, access)) return true;
  return access == Access::kWrite ? !vma.shared : has(vma.max_prot, Prot::kRead);
}

FaultResult fault_result(const Result<void>& done) {
  if (done) return FaultResult::kResolved;
  switch (done.error()) {
    case Errno::kNxIo:
    case Errno::kIo:
      return FaultResult::kBusError;
    case Errno::kSrch:  // the address space is lost; its Context says so next
      return FaultResult::kResolved;
    default:
      return FaultResult::kNoMemory;
  }
}

}  // namespace

FaultResult MemoryManager::Impl::fault(uint64_t addr, Access access, Force force) {
  const FaultResult result = resolve_fault(addr, access, force);
  if (result == FaultResult::kNoMemory) static_cast<void>(file_.refuse());
  return result;
}

FaultResult MemoryManager::Impl::resolve_fault(uint64_t addr, Access access, Force force) {
  FaultRound round{addr, access, force, false};
  for (int i = 0; i < kMaxRounds; i++) {
    PageInNeed need;
    FaultResult result;
    {
      Lock lock(mutex_);
      result = fault_locked(round, need);
    }
    if (!need.source) return result;
    bool covered = false;
    result = page_in(need, addr, covered);
    if (result != FaultResult::kResolved) return result;
    // A write to a private mapping goes on to copy what was read.
    const bool must_copy = access == Access::kWrite && !need.for_write;
    if (covered && !must_copy) return FaultResult::kResolved;
    round.from_address = true;
  }
  return FaultResult::kNoMemory;
}

FaultResult MemoryManager::Impl::fault_locked(const FaultRound& round, PageInNeed& need) {
  auto at = maps_.vmas.find(round.addr);
  if (at == maps_.vmas.end()) at = grow_stack(round.addr);
  if (at == maps_.vmas.end()) return FaultResult::kMapError;
  const Vma& vma = at.value();
  const bool allowed =
      round.force == Force::kYes ? permits_force(vma, round.access) : permits(vma, round.access);
  if (!allowed) return FaultResult::kAccessError;
  const auto page = maps_.pages.find(round.addr);
  if (page == maps_.pages.end()) {
    return fault_result(populate_hole(round.addr, at.range(), vma, round, need));
  }
  const bool wants_write =
      round.access == Access::kWrite || (round.access == Access::kUnknown && vma.writable());
  if (wants_write && page.value().cow) {
    return fault_result(make_writable(round.addr, at.range(), vma, need));
  }
  return reinstall(round, vma);
}

FaultResult MemoryManager::Impl::page_in(const PageInNeed& need, uint64_t addr, bool& covered) {
  const Range wanted{need.offset, need.offset + need.guest.size()};
  auto given = need.source->page_in(wanted, need.for_write);
  if (!given) {
    return given.error() == Errno::kNoMem ? FaultResult::kNoMemory : FaultResult::kBusError;
  }
  CHECK(!given->empty() && given->size() <= wanted.size() && page_aligned(given->size()));
  const Range guest{need.guest.start, need.guest.start + given->size()};
  Lock lock(mutex_);
  const auto at = maps_.vmas.find(guest.start);
  const bool same = at != maps_.vmas.end() && at.value().source == need.source &&
                    at.value().offset + (guest.start - at.range().start) == need.offset &&
                    invalidations_ == need.invalidations;
  if (!same) {
    file_.unref(*given);
    return FaultResult::kResolved;
  }
  // Other threads may have installed pages meanwhile, even private copies: only holes are filled,
  // and pages that may not be written are replaced by ones that may.
  const Vma& vma = at.value();
  const bool cow = !(vma.shared && need.for_write);
  Batch batch(file_);
  uint64_t used_to = guest.start;
  const auto use = [&](Range piece) {
    if (piece.start > used_to)
      file_.unref(
          {given->start + (used_to - guest.start), given->start + (piece.start - guest.start)});
    batch.map(piece, Pages{Pages::Kind::kSource, installed_prot(vma.prot, cow), cow,
                           given->start + (piece.start - guest.start), -1, need.source});
    used_to = piece.end;
  };
  uint64_t next = guest.start;
  const Range in_vma = guest.intersect(at.range());
  for (const auto& [piece, old] : maps_.pages.slices(in_vma)) {
    if (piece.start > next) use({next, piece.start});
    next = piece.end;
    if (vma.shared && need.for_write && old.cow) use(piece);
  }
  if (next < in_vma.end) use({next, in_vma.end});
  if (used_to < guest.end) file_.unref({given->start + (used_to - guest.start), given->end});
  covered = in_vma.contains(addr);
  return fault_result(run(batch));
}

// How much to copy around a write: of a host file, as much again as was copied next to it (the data
// of a large program is written nearly everywhere); else one step, since a child may exec at once.
uint64_t MemoryManager::Impl::copy_step(RangeMap<Pages>::Iterator page) const {
  if (page.value().kind != Pages::Kind::kHost) return kStep;
  uint64_t beside = 0;
  const auto count = [&](const RangeMap<Pages>::Iterator& at, bool touches) {
    if (touches && at.value().kind == Pages::Kind::kPrivate) beside += at.range().size();
  };
  if (page != maps_.pages.begin()) {
    auto before = page;
    --before;
    count(before, before.range().end == page.range().start);
  }
  auto after = page;
  ++after;
  if (after != maps_.pages.end()) count(after, after.range().start == page.range().end);
  return std::clamp(std::bit_floor(beside), kStep, kCopyAtMap);
}

Result<void> MemoryManager::Impl::make_writable(uint64_t addr, Range vma_range, const Vma& vma,
                                                PageInNeed& need) {
  const auto page = maps_.pages.find(addr);
  const Range window = block_around(addr, copy_step(page)).intersect(vma_range);
  if (vma.shared) {
    const Range guest = window.intersect(page.range());
    need = PageInNeed{vma.source, guest, vma.offset + (guest.start - vma_range.start), true,
                      invalidations_};
    return {};
  }
  Batch batch(file_);
  if (unshare_all(batch, window, vma)) {
    // Memory that a child has left behind is taken back in larger steps: nothing is copied.
    const Range more = Range{window.end, window.start + kTakeBack}.intersect(vma_range);
    for (const auto& [piece, pages] : maps_.pages.slices(more)) {
      if (!pages.cow || pages.kind != Pages::Kind::kPrivate) break;
      const auto sharing = file_.sharing(pages.extent(piece.size()));
      if (!sharing.exclusive) break;
      batch.protect({piece.start, piece.start + sharing.size}, installed_prot(vma.prot, false),
                    false);
      if (sharing.size < piece.size()) break;
    }
    return run(batch);
  }
  // Not enough memory for all of the window (or the file ends within): the one page that counts.
  Batch one(file_);
  const Range single{page_down(addr), page_down(addr) + kPageSize};
  TRY(unshare_all(one, single, vma));
  return run(one);
}

Result<void> MemoryManager::Impl::unshare_all(Batch& batch, Range range, const Vma& vma) {
  for (const auto& [piece, pages] : maps_.pages.slices(range)) {
    if (pages.cow) TRY(unshare(batch, piece, pages, vma));
  }
  return {};
}

// Adds private, writable pages in place of the copy-on-write ones in `piece`: the same pages where
// nobody else has them any more, copies otherwise.
Result<void> MemoryManager::Impl::unshare(Batch& batch, Range piece, const Pages& pages,
                                          const Vma& vma) {
  if (pages.kind == Pages::Kind::kHost) {
    TRY(copy_host(batch, piece, pages.offset, vma));
    return {};
  }
  const Prot prot = installed_prot(vma.prot, false);
  uint64_t done = 0;
  while (done < piece.size()) {
    const Range old{pages.offset + done, pages.offset + piece.size()};
    const auto sharing = file_.sharing(old);
    const Range guest{piece.start + done, piece.start + done + sharing.size};
    done += sharing.size;
    if (sharing.exclusive && pages.kind == Pages::Kind::kPrivate) {
      batch.protect(guest, prot, false);
      continue;
    }
    const Range copy = TRY(allocate_for(guest, Growth::kUp));
    batch.map(guest, Pages{Pages::Kind::kPrivate, prot, false, copy.start});
    if (safe_copy(file_.data(copy.start), file_.data(old.start), copy.size()) != copy.size()) {
      return Errno::kNoMem;
    }
  }
  return {};
}

// The page is there with all the access that the guest may have. Either the fault was raced by
// another thread's, or a failed operation left the platform without what our map says, or the
// touch is not allowed (the access is unknown, or the page is beyond the end of a host file).
// Installing it again answers the first two. If the same thread faults there again and the page has
// not changed meanwhile, the fault is of the third kind. Only changes of this page count: any
// number of races may be lost on a page that a process forks over and over, and each begins with a
// change.
FaultResult MemoryManager::Impl::reinstall(const FaultRound& round, const Vma& vma) {
  const auto page = maps_.pages.find(round.addr);
  const Pages& pages = page.value();
  if (pages.kind == Pages::Kind::kHost) {
    const Result<struct stat> status = file_status(pages.host_fd);
    const uint64_t offset = pages.offset + (page_down(round.addr) - page.range().start);
    if (status.ok() && offset >= static_cast<uint64_t>(status->st_size)) {
      return FaultResult::kBusError;
    }
  }
  const auto self = std::this_thread::get_id();
  const uint64_t at = page_down(round.addr);
  const auto is_ours = [&](const Reinstalled& r) { return r.thread == self && r.page == at; };
  if (std::erase_if(reinstalled_, is_ours) != 0) {
    return round.access == Access::kUnknown ? FaultResult::kAccessError : FaultResult::kBusError;
  }
  const Range guest = block_around(round.addr, kStep).intersect(page.range());
  Pages same = pages;
  same.advance(guest.start - page.range().start);
  same.prot = installed_prot(vma.prot, same.cow);
  if (same.in_memory_file()) file_.ref(same.extent(guest.size()));
  Batch batch(file_);
  batch.map(guest, std::move(same));
  const auto done = run_unchanged(batch);
  if (done) {
    if (reinstalled_.size() == kMostReinstalled) reinstalled_.erase(reinstalled_.begin());
    reinstalled_.push_back({self, at});
  }
  return fault_result(done);
}

// mm/mmap.c: expand_stack. The stack may grow down to RLIMIT_STACK, but not closer to what is
// below it than the guard gap, unless that is a stack itself or cannot be touched.
RangeMap<Vma>::Iterator MemoryManager::Impl::grow_stack(uint64_t addr) {
  const auto& vmas = maps_.vmas;
  const auto above = vmas.first_after(addr);
  if (above == vmas.end() || !above.value().grows_down || !user_.contains(addr)) return vmas.end();
  const Range old = above.range();
  const uint64_t limit = maps_.last_limits.stack;
  uint64_t lowest = user_.start;
  if (old.end > limit) lowest = std::max(lowest, *page_up(old.end - limit));
  if (above != vmas.begin()) {
    auto below = above;
    --below;
    const bool guarded = !below.value().grows_down && below.value().prot != Prot::kNone;
    lowest = std::max(lowest, below.range().end + (guarded ? kStackGuardGap : 0));
  }
  const uint64_t page = page_down(addr);
  if (page < lowest) return vmas.end();
  // A quarter more at a time, so that deep recursion takes few faults.
  const uint64_t step = std::max(kStep, page_down((old.end - page) / 4));
  const uint64_t start = page - std::min(page - lowest, step - kPageSize);
  const Vma& vma = above.value();
  for (const uint64_t bottom : {start, page}) {
    if (!maps_.may_expand(old.start - bottom, vma, maps_.last_limits, file_)) continue;
    if (vma.locked && maps_.locked_bytes + (old.start - bottom) > maps_.last_limits.memlock)
      continue;
    if (!leave_spare({bottom, old.start})) continue;
    maps_.add({bottom, old.start}, vma);
    return maps_.vmas.find(addr);
  }
  return vmas.end();
}

Result<void> MemoryManager::Impl::populate_range(Range range, Access access) {
  uint64_t addr = range.start;
  while (addr < range.end) {
    {
      Lock lock(mutex_);
      const auto page = maps_.pages.find(addr);
      if (page != maps_.pages.end() && !(access == Access::kWrite && page.value().cow)) {
        addr = page.range().end;
        continue;
      }
    }
    switch (fault(addr, access, Force::kNo)) {
      case FaultResult::kResolved:
        break;
      case FaultResult::kNoMemory:
        return Errno::kNoMem;
      case FaultResult::kBusError:
      case FaultResult::kMapError:
      case FaultResult::kAccessError:
        return Errno::kFault;
    }
  }
  return {};
}

FaultResult MemoryManager::fault(uint64_t addr, Access access, const Limits& limits) {
  {
    Lock lock(impl_->mutex_);
    impl_->maps_.last_limits = limits;
  }
  return impl_->fault(addr, access, Impl::Force::kNo);
}

}  // namespace boxrun::mm
