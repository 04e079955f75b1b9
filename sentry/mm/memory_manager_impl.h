// The inside of MemoryManager, shared by the files of this folder and nobody else. Each .cpp
// implements one idea: place (choice of addresses), map, unmap (munmap, mprotect), fault, populate
// (what a fault or a promise puts behind a range), fork, remap, brk, advise, lock, user (copies),
// pin, atomics, info.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "platforms/platform.h"
#include "sentry/mm/batch.h"
#include "sentry/mm/host_window.h"
#include "sentry/mm/maps.h"
#include "sentry/mm/memory_file.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/range_map.h"
#include "sentry/mm/vma.h"
#include "src/base/sync.h"

namespace boxrun::mm {

class MemoryManager::Impl {
 public:
  using Op = platform::Op;

  Impl(platform::Platform& platform, MemoryFile& file,
       std::unique_ptr<platform::AddressSpace> address_space, Maps maps, uint64_t mmap_base,
       std::vector<Range> quarantine = {});
  ~Impl();

  // How the Sentry itself touches memory.
  enum class Force : uint8_t { kNo, kYes };  // kYes: like a debugger (peek, poke)
  struct FaultRound {
    uint64_t addr;
    Access access;
    Force force;
    bool from_address;  // a source was asked before, and gave less than reaches the address
  };
  // What a fault needs from a source before it can go on: asked for without the lock.
  struct PageInNeed {
    Ref<PageSource> source;  // null: nothing
    Range guest;
    uint64_t offset = 0;  // of guest.start in the source
    bool for_write = false;
    uint64_t invalidations = 0;
  };

  // --- place.cpp
  Result<uint64_t> place(const MapRequest& request, uint64_t length) REQUIRES(mutex_);
  std::optional<uint64_t> find_gap_end(uint64_t length, Range within) REQUIRES(mutex_);
  std::optional<uint64_t> gap_top_down(uint64_t length) REQUIRES(mutex_);
  std::optional<uint64_t> gap_bottom_up(uint64_t length, Range within) const REQUIRES(mutex_);
  bool is_free(Range range) const REQUIRES(mutex_);

  // --- populate.cpp: what will be behind a range
  Range hole_around(uint64_t addr, Range vma_range) const REQUIRES(mutex_);
  // Where more is likely to follow: programs touch memory upwards.
  enum class Growth : uint8_t { kDown, kUp };
  Result<Range> allocate_for(Range guest, Growth growth) REQUIRES(mutex_);
  Result<void> promise(Batch& batch, Range hole, const Vma& vma) REQUIRES(mutex_);
  uint64_t step_at(uint64_t addr, Range hole, const Vma& vma) const REQUIRES(mutex_);
  Result<void> populate_anonymous(Range hole, uint64_t addr, const Vma& vma) REQUIRES(mutex_);
  Result<void> populate_host(Range hole, uint64_t addr, Range vma_range, const Vma& vma,
                             Access access) REQUIRES(mutex_);
  Result<void> populate_hole(uint64_t addr, Range vma_range, const Vma& vma,
                             const FaultRound& round, PageInNeed& need) REQUIRES(mutex_);
  // Private copies of host file pages, and how many bytes of them: fewer than asked where the file
  // ends, ENXIO when the first one is beyond its end.
  Result<uint64_t> copy_host(Batch& batch, Range guest, uint64_t offset, const Vma& vma)
      REQUIRES(mutex_);

  // --- fault.cpp
  FaultResult fault(uint64_t addr, Access access, Force force) EXCLUDES(mutex_);
  FaultResult resolve_fault(uint64_t addr, Access access, Force force) EXCLUDES(mutex_);
  FaultResult fault_locked(const FaultRound& round, PageInNeed& need) REQUIRES(mutex_);
  FaultResult page_in(const PageInNeed& need, uint64_t addr, bool& covered) EXCLUDES(mutex_);
  FaultResult reinstall(const FaultRound& round, const Vma& vma) REQUIRES(mutex_);
  Result<void> make_writable(uint64_t addr, Range vma_range, const Vma& vma, PageInNeed& need)
      REQUIRES(mutex_);
  uint64_t copy_step(RangeMap<Pages>::Iterator page) const REQUIRES(mutex_);
  Result<void> unshare_all(Batch& batch, Range range, const Vma& vma) REQUIRES(mutex_);
  Result<void> unshare(Batch& batch, Range piece, const Pages& pages, const Vma& vma)
      REQUIRES(mutex_);
  RangeMap<Vma>::Iterator grow_stack(uint64_t addr) REQUIRES(mutex_);
  // Faults in all of `range`, which must be mapped.
  Result<void> populate_range(Range range, Access access) EXCLUDES(mutex_);

  // --- unmap.cpp
  Result<void> unmap_locked(Range range, Farewell& farewell) REQUIRES(mutex_);
  Result<void> protect_locked(Range range, Prot prot, const Limits& limits) REQUIRES(mutex_);
  Result<void> protect_pages(Range range, const Vma& vma) REQUIRES(mutex_);
  Result<void> protect_by_copying(Range range, const Vma& vma) REQUIRES(mutex_);

  // --- call_site.cpp: what the guest may write to is its own, and what it maps itself
  Result<void> restore_text(Range range) REQUIRES(mutex_);
  Result<void> leave_spare(Range range) REQUIRES(mutex_);
  // The page above the mapping area, which nobody gets without asking for it.
  Range spare() const { return {mmap_base_, mmap_base_ + kPageSize}; }

  // --- map.cpp
  struct Prepared;
  Result<Prepared> prepare(const MapRequest& request, uint64_t length) EXCLUDES(mutex_);
  void ask_source(Prepared& prepared, uint64_t length) EXCLUDES(mutex_);
  Result<void> promise_new(Batch& batch, Range range, Prepared& prepared) REQUIRES(mutex_);
  Result<uint64_t> map_locked(const MapRequest& request, uint64_t length, Prepared& prepared,
                              const Limits& limits, Farewell& farewell) REQUIRES(mutex_);

  // --- remap.cpp
  struct Remap;
  // A mapping that a source must be told of, or a hole that it must be asked for.
  struct SourceNews {
    Ref<PageSource> source;
    Range range;
    bool shared_writable = false;
    bool operator==(const SourceNews& other) const {
      return source == other.source && range == other.range &&
             shared_writable == other.shared_writable;
    }
  };
  Result<Vma> check_remap(const Remap& remap, const Limits& limits, SourceNews& news)
      REQUIRES(mutex_);
  Result<uint64_t> remap_locked(Remap remap, const Vma& vma, Farewell& farewell) REQUIRES(mutex_);
  Result<uint64_t> grow_in_place(Range more, Vma vma, uint64_t old_size) REQUIRES(mutex_);
  Result<void> move(const Remap& remap, Range to, const Vma& vma, Farewell& farewell)
      REQUIRES(mutex_);

  // --- advise.cpp, lock.cpp
  Result<void> advise_locked(Range range, int advice, std::vector<SourceNews>& holes)
      REQUIRES(mutex_);
  void dont_need(Batch& batch, Range range, const Vma& vma) REQUIRES(mutex_);
  Result<void> populate_advised(Range range, Access access) EXCLUDES(mutex_);
  Result<void> lock_locked(Range range, const Limits& limits) REQUIRES(mutex_);
  Result<void> populate_locked(Range range) EXCLUDES(mutex_);

  // --- brk.cpp: what the heap grew by
  Range set_break_locked(uint64_t addr, const Limits& limits, Farewell& farewell) REQUIRES(mutex_);

  // --- fork.cpp, memory_manager.cpp
  Result<std::unique_ptr<Impl>> fork_locked(uint64_t& invalidations) REQUIRES(mutex_);
  template <class F>
  void each_private_run(F&& to) REQUIRES(mutex_);
  Result<void> downgrade_for_fork() REQUIRES(mutex_);
  Result<void> changes_for_child(Batch& changes) REQUIRES(mutex_);
  void invalidate_locked(const PageSource& source, Range file_range, Gone gone) REQUIRES(mutex_);
  void drop_source_pages() REQUIRES(mutex_);

  // --- user.cpp
  struct Piece {
    std::byte* host = nullptr;
    size_t size = 0;
    Range extent;            // in the memory file, or
    Ref<HostWindow> window;  // the window that host is in
  };
  // The longest prefix of [addr, addr + size) that can be touched now and is one piece.
  std::optional<Piece> piece(uint64_t addr, size_t size, Access access, Force force)
      REQUIRES(mutex_);
  // Calls move(Piece&, bytes done) -> bytes moved for all of [addr, addr + size), with the lock
  // held. Returns how many bytes were moved: fewer when memory cannot be touched.
  template <class Move>
  size_t transfer(uint64_t addr, size_t size, Access access, Force force, Move&& move)
      EXCLUDES(mutex_);
  bool is_user_range(uint64_t addr, size_t size) const {
    const auto range = Range::make(addr, size);
    return range && user_.contains(*range);
  }

  Result<void> run(Batch& batch) REQUIRES(mutex_) {
    std::erase_if(reinstalled_, [&](const Reinstalled& r) { return batch.touches(r.page); });
    return run_unchanged(batch);
  }
  // For a batch that brings the platform nothing new.
  Result<void> run_unchanged(Batch& batch) REQUIRES(mutex_) {
    const auto done = batch.run(*address_space_, user_, maps_.pages, quarantine_);
    if (!done) reinstalled_.clear();  // the platform may have lost what they were about
    return done;
  }

  platform::Platform& platform_;
  MemoryFile& file_;
  MemoryManager* owner_ = nullptr;  // set once, before use: what sources know us by
  std::unique_ptr<platform::AddressSpace> address_space_;  // the same until the end
  const Range user_;
  const uint64_t mmap_base_;

  Mutex mutex_{Rank::kMmMaps};
  Maps maps_ GUARDED_BY(mutex_);
  WindowCache windows_ GUARDED_BY(mutex_);
  std::vector<Range> quarantine_ GUARDED_BY(mutex_);
  uint64_t invalidations_ GUARDED_BY(mutex_) = 0;  // counts calls of invalidate

  // Pages that were installed again for a thread and have not changed since, oldest first: see
  // reinstall(). At most kMostReinstalled.
  struct Reinstalled {
    std::thread::id thread;
    uint64_t page = 0;
  };
  std::vector<Reinstalled> reinstalled_ GUARDED_BY(mutex_);
};

template <class Move>
size_t MemoryManager::Impl::transfer(uint64_t addr, size_t size, Access access, Force force,
                                     Move&& move) {
  // Faults in a row that bring nothing: only a process that unmaps what we map can cause more.
  constexpr int kMaxTries = 16;
  if (!is_user_range(addr, size)) return 0;
  size_t done = 0;
  for (int tries = 0; done < size; tries++) {
    {
      Lock lock(mutex_);
      while (done < size) {
        auto next = piece(addr + done, size - done, access, force);
        if (!next) break;
        const size_t wanted = next->size;
        const size_t moved = move(*next, done);
        done += moved;
        if (moved < wanted) return done;
        tries = 0;
      }
    }
    if (done == size || tries == kMaxTries) break;
    if (fault(addr + done, access, force) != FaultResult::kResolved) break;
  }
  return done;
}

}  // namespace boxrun::mm
