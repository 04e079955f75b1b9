// What a stub process of the systrap platform contains besides guest mappings and the first three
// pages of its StubLayout:
//
//   base + 3 pages   text, read-execute: systrap_text.S
//   base + 4 pages   constants, read-only: StubConstants
//   below base       the slots of guest threads, read-write: ThreadSlot, one for each
//
// The list page is the mapper's: MapperPage, a page of the control file that the stub maps
// read-only. Slots lie in the control file, too. The Sentry maps the whole file.
#pragma once
#include <linux/filter.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "platforms/stub/layout.h"
#include "src/base/futex.h"

extern "C" {
extern const char boxrun_systrap_text[];
extern const char boxrun_systrap_handler[];
extern const char boxrun_systrap_restorer[];
extern const char boxrun_systrap_call[];
extern const char boxrun_systrap_all[];
extern const char boxrun_systrap_text_end[];
}

namespace boxrun::platform {

inline constexpr uint64_t kSystrapPages = 5;  // StubLayout::pages

// Requests to the mapper thread of a stub process. The Sentry fills the page, then counts up
// `sequence` and wakes it. The answer comes through the eventfd, as the sum of what the mapper
// writes there: nothing that guest code could write to.
struct MapperPage {
  FutexWord sequence;
  uint32_t count;
  int32_t event_fd;  // in the stubs' table
  uint32_t unused;
  static constexpr size_t kCapacity = (kPageSize - 16) / sizeof(StubCall);
  std::array<StubCall, kCapacity> calls;
};
static_assert(sizeof(MapperPage) <= kPageSize);
static_assert(offsetof(MapperPage, count) == 4 && offsetof(MapperPage, event_fd) == 8 &&
              offsetof(MapperPage, calls) == 16);

// Answers of the mapper. Lower bits: after kMapperDone what the last call returned if that was a
// clone(2), else 0; after kMapperFailed the errno of the call that failed, and from bit 12 on the
// number of calls that were done before it.
inline constexpr unsigned kMapperValueBits = 24;
inline constexpr uint64_t kMapperDone = uint64_t{1} << 32;
inline constexpr uint64_t kMapperFailed = uint64_t{1} << 33;

// Who has a guest thread at the moment.
enum SlotState : uint32_t {
  kSlotDead = 0,     // the host kernel stores it when the thread ends (CLONE_CHILD_CLEARTID)
  kSlotRunning = 1,  // the Sentry stores it, then the guest goes on
  kSlotStopped = 2,  // the stub stores it: `signal` and `frame` tell why
  kSlotExit = 3,     // the Sentry stores it: the thread ends
};

// Why a guest thread stopped is a signal number, or this: a patched call site, without a frame. Of
// its registers the slot has only what a system call needs; the others are still where they were.
inline constexpr uint32_t kCallStop = 0x100;

// What one guest thread and the host thread that serves it share. Guest code can write all of it:
// the Sentry copies what it needs once and believes nothing.
struct ThreadSlot {
  static constexpr uint64_t kSize = 64 << 10;
  static constexpr uint64_t kStackOffset = kPageSize;

  // A cache line that both sides write.
  FutexWord state;
  uint32_t signal;  // what stopped it
  uint64_t
      frame;    // address of its ucontext in the stub, on the alternate stack; not of a kCallStop
  uint64_t sp;  // this and the next: of a kCallStop
  uint64_t ip;
  uint32_t set_bases;  // 1: fs_base and gs_base are to be set
  uint32_t noted;      // the doorbell rang while stub text ran
  FutexWord sentry_sleeps;
  FutexWord stub_sleeps;
  uint32_t looks;     // Placement::Pair::looks(), for the stub
  uint32_t give_all;  // 1: after a kCallStop, do not go on but stop again with a frame
  uint64_t result;    // of a kCallStop
  // One that the stub writes at a kCallStop.
  uint64_t number;
  std::array<uint64_t, 6> args;
  uint64_t unused;
  // Seldom looked at by the Sentry.
  uint64_t fs_base;
  uint64_t gs_base;
  uint64_t rbx;  // this and the next: what the stub needs to go on after a kCallStop
  uint64_t flags;
  std::array<uint64_t, 3> stack;  // stack_t
};
static_assert(offsetof(ThreadSlot, signal) == 4 && offsetof(ThreadSlot, frame) == 8 &&
              offsetof(ThreadSlot, sp) == 16 && offsetof(ThreadSlot, ip) == 24 &&
              offsetof(ThreadSlot, set_bases) == 32 && offsetof(ThreadSlot, noted) == 36 &&
              offsetof(ThreadSlot, sentry_sleeps) == 40 &&
              offsetof(ThreadSlot, stub_sleeps) == 44 && offsetof(ThreadSlot, looks) == 48 &&
              offsetof(ThreadSlot, give_all) == 52 && offsetof(ThreadSlot, result) == 56 &&
              offsetof(ThreadSlot, number) == 64 && offsetof(ThreadSlot, args) == 72 &&
              offsetof(ThreadSlot, fs_base) == 128 && offsetof(ThreadSlot, gs_base) == 136 &&
              offsetof(ThreadSlot, rbx) == 144 && offsetof(ThreadSlot, flags) == 152 &&
              offsetof(ThreadSlot, stack) == 160);

inline constexpr uint64_t kMaxSlots = 32768;
inline constexpr uint64_t kSlotsSize = kMaxSlots * ThreadSlot::kSize;

// Read-only in every stub.
struct StubConstants {
  // digit[i][d] is d << 4 * i: the mapper's answers are sums of these.
  std::array<std::array<uint64_t, 16>, kMapperValueBits / 4> digit;
  uint64_t done;
  uint64_t failed;
  uint64_t slots;
  uint64_t slots_size;
  uint64_t guest_mask;  // blocked signals of a guest thread
  sock_fprog thread_filter;
  std::array<sock_filter, 80> thread_filter_program;
};
static_assert(sizeof(StubConstants) <= kPageSize);
static_assert(offsetof(StubConstants, done) == 768 && offsetof(StubConstants, failed) == 776 &&
              offsetof(StubConstants, slots) == 784 && offsetof(StubConstants, slots_size) == 792 &&
              offsetof(StubConstants, guest_mask) == 800 &&
              offsetof(StubConstants, thread_filter) == 808);

// Where the parts are, for one StubLayout.
struct SystrapLayout {
  StubLayout stub;

  uint64_t text() const { return stub.extra(); }
  uint64_t constants() const { return stub.extra() + kPageSize; }
  uint64_t mapper_page() const { return stub.list(); }
  // The handler finds its slot by rounding its stack pointer down to ThreadSlot::kSize; trampolines
  // know slots by the upper half of their addresses, which no guest address has.
  Range slots() const {
    const uint64_t start = (stub.base - kSlotsSize) & ~uint64_t{UINT32_MAX};
    return {start, start + kSlotsSize};
  }
  uint64_t address_of(const char* label) const {
    return text() + static_cast<uint64_t>(label - boxrun_systrap_text);
  }
};

}  // namespace boxrun::platform
