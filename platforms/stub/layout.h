// What a stub process contains besides guest mappings: one small area near the top of the 47-bit
// address range.
//
//   base            text, read-execute: stub_text.S
//   base + 1 page   list of system calls, read-only for the stub; the Sentry writes it
//   base + 2 pages  the seed's own page, read-write; only in the seed, which runs no guest code
//   base + 3 pages  further pages of the platform (StubExtra): text, then constants
#pragma once
#include <sched.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>

#include "src/base/range.h"

extern "C" {
extern const char boxrun_stub_text[];
extern const char boxrun_stub_call[];
extern const char boxrun_stub_call_done[];
extern const char boxrun_stub_list[];
extern const char boxrun_stub_list_done[];
extern const char boxrun_stub_clone[];
extern const char boxrun_stub_clone_done[];
extern const char boxrun_stub_park[];
extern const char boxrun_stub_seed[];
extern const char boxrun_stub_text_end[];
}

namespace boxrun::platform {

// One system call for boxrun_stub_list.
struct StubCall {
  uint64_t number = 0;
  std::array<uint64_t, 6> args{};
};
static_assert(sizeof(StubCall) == 56);

inline constexpr size_t kStubListCapacity = kPageSize / sizeof(StubCall);

// Descriptors of every stub. All stub processes of a sandbox share one descriptor table, which
// nobody else has.
inline constexpr int kStubSocketFd = 0;  // the seed's end of its request socket
inline constexpr int kStubMemoryFd = 1;  // the memory file
inline constexpr int kStubControlFd =
    2;  // systrap: the file of the pages that a stub shares with us

// clone(2) flags of a new stub process and of a new stub thread; the filters allow no others.
inline constexpr uint64_t kCloneProcess = CLONE_PARENT | CLONE_FILES;
inline constexpr uint64_t kCloneThread =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
static_assert(kCloneProcess == 0x8400);  // stub_text.S

// mmap(2) flags of guest mappings; the filters allow no others.
inline constexpr uint64_t kGuestMapFlags = 0x4011;  // MAP_NORESERVE | MAP_FIXED | MAP_SHARED

// The signal by which Context::interrupt() reaches a running guest thread. No kernel code sends it,
// and like every standard signal it is pending at most once.
inline constexpr int kDoorbell = SIGSTKFLT;

// The end of user addresses with 4-level page tables (TASK_SIZE_MAX).
inline constexpr uint64_t kUserEnd = 0x7ffffffff000;

// Where the stub area of one platform instance is.
struct StubLayout {
  uint64_t base = 0;
  uint64_t pages = 3;

  uint64_t list() const { return base + kPageSize; }
  uint64_t seed_page() const { return base + 2 * kPageSize; }
  uint64_t extra() const { return base + 3 * kPageSize; }
  Range range() const { return {base, base + pages * kPageSize}; }
  // Where a label of stub_text.S is in a stub.
  uint64_t address_of(const char* label) const {
    return base + static_cast<uint64_t>(label - boxrun_stub_text);
  }
};

// Inside the seed's page.
struct SeedPage {
  struct Request {
    uint32_t what;
    uint32_t argument;
  };
  alignas(8) std::byte message[56];  // struct msghdr
  alignas(8) std::byte pieces[16];   // struct iovec
  alignas(8) std::byte control[24];  // struct cmsghdr and one descriptor
  Request request;
  uint64_t reply;
};
inline constexpr uint32_t kSeedPing = 0;
inline constexpr uint32_t kSeedReceive = 1;  // with a descriptor: its number in the stubs' table
inline constexpr uint32_t kSeedDiscard = 2;  // closes descriptor `argument` of that table
inline constexpr uint32_t kSeedFork = 3;     // an empty stub process: its process id
// The same with a mapper thread, whose page is `argument` in the control file (systrap).
inline constexpr uint32_t kSeedForkMapper = 4;

}  // namespace boxrun::platform
