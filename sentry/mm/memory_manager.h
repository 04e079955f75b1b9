#pragma once
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "platforms/platform.h"
#include "sentry/mm/memory_file.h"
#include "sentry/mm/page_source.h"
#include "sentry/mm/user.h"
#include "src/base/bytes.h"
#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::mm {

using platform::Access;
using platform::Prot;

class HostWindow;  // host_window.h

// Guest memory held in place: its pages stay allocated until this is destroyed, whatever the guest
// unmaps meanwhile. buffers() is what the VFS reads from and writes to.
class Pinned {
 public:
  Pinned();
  Pinned(Pinned&& other) noexcept;
  Pinned& operator=(Pinned&& other) noexcept;
  ~Pinned();

  IoBuffers buffers() const { return IoBuffers(std::span<const iovec>(pieces_)); }
  size_t size() const { return size_; }
  // Whether that is all that was asked for: a packet is sent whole or not at all.
  bool complete() const { return complete_; }

 private:
  friend class MemoryManager;
  // What keeps a piece alive: an extent of the memory file, or a mapped window of a host file.
  struct Hold {
    MemoryFile* file = nullptr;
    Range extent;
    bool for_write = false;
    Ref<HostWindow> window;
  };
  void release();
  std::vector<iovec> pieces_;
  std::vector<Hold> holds_;
  size_t size_ = 0;
  bool complete_ = true;
};

struct MapRequest {
  uint64_t addr = 0;    // hint, or the place with kFixed
  uint64_t length = 0;  // bytes, as the guest gave it
  Prot prot = Prot::kNone;
  Prot max_prot = Prot::kRead | Prot::kWrite | Prot::kExec;  // what mprotect may raise it to
  // kBelow2G is MAP_32BIT. kAnywhere and kBelow2G take `addr` as a hint.
  enum class Placement : uint8_t { kAnywhere, kBelow2G, kFixed, kFixedNoReplace } placement{};
  bool shared = false;
  bool grows_down = false;
  bool stack = false;  // the main stack: [stack] in /proc/PID/maps (not MAP_STACK)
  bool populate = false;
  bool locked = false;
  bool noreserve = false;
  Ref<PageSource> source;  // null: anonymous
  // The open file that `source` came from; opaque here, kept until the mapping is gone.
  Ref<RefCounted> opened;
  uint64_t offset = 0;  // in source, page-aligned
  std::string name;     // for /proc/PID/maps, as in [vdso]
};

// What became of a guest fault.
enum class FaultResult : uint8_t { kResolved, kMapError, kAccessError, kBusError, kNoMemory };

// Where a futex word lives (futex(2)): private futexes are keyed by address space, shared ones by
// the page behind the address. Compared, hashed, never dereferenced.
struct FutexKey {
  const void* object = nullptr;
  uint64_t offset = 0;
  bool operator==(const FutexKey&) const = default;
};

// The fields of struct mm_struct that prctl(PR_SET_MM), /proc/PID/stat and execve deal in.
struct Layout {
  uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0;
  uint64_t start_brk = 0;
  uint64_t brk = 0;  // 0 in set_layout: the same as start_brk
  uint64_t start_stack = 0;
  Range args, env;
  uint64_t vdso = 0;
  std::vector<std::byte> auxv;
};

struct Usage {
  uint64_t virtual_bytes = 0, resident_bytes = 0, data_bytes = 0, stack_bytes = 0, exec_bytes = 0,
           locked_bytes = 0, peak_virtual_bytes = 0;
};

struct Limits {
  uint64_t address_space = UINT64_MAX;  // RLIMIT_AS
  uint64_t data = UINT64_MAX;           // RLIMIT_DATA
  uint64_t stack = UINT64_MAX;          // RLIMIT_STACK
  uint64_t memlock = UINT64_MAX;        // RLIMIT_MEMLOCK
};

struct VmaInfo {
  Range range;
  Prot prot;
  bool shared;
  uint64_t offset;
  PageSource::Identity file;
  Ref<RefCounted> opened;  // as in MapRequest
  std::string name;
};

// The memory of one guest process (struct mm_struct): which addresses mean what (vmas), which
// pages are behind them (pages), and the platform's address space that realises both. Shared by
// reference between tasks of one process and by CLONE_VM. Thread-safe.
class MemoryManager final : public RefCounted, public MappingObserver {
 public:
  // ADDR_NO_RANDOMIZE of personality(2) asks for kOff.
  enum class Aslr : uint8_t { kOn, kOff };
  static Result<Ref<MemoryManager>> create(platform::Platform& platform, MemoryFile& memory_file,
                                           Aslr aslr = Aslr::kOn);
  ~MemoryManager() override;

  // A copy for fork(2): private pages become copy-on-write on both sides. Called on the thread
  // whose Context last ran here (Platform::new_address_space).
  Result<Ref<MemoryManager>> fork();

  platform::AddressSpace& address_space();

  // --- system calls; errors as in the man page of each
  Result<uint64_t> map(const MapRequest& request, const Limits& limits);
  Result<void> unmap(uint64_t addr, uint64_t length);
  // `grows_down` is PROT_GROWSDOWN.
  Result<void> protect(uint64_t addr, uint64_t length, Prot prot, bool grows_down,
                       const Limits& limits = {});
  Result<uint64_t> remap(uint64_t old_addr, uint64_t old_size, uint64_t new_size, int flags,
                         uint64_t new_addr, const Limits& limits);
  // brk(2): returns the (perhaps unchanged) break.
  uint64_t set_break(uint64_t addr, const Limits& limits);
  Result<void> advise(uint64_t addr, uint64_t length, int advice);
  Result<void> sync(uint64_t addr, uint64_t length, int flags);
  // mincore(2): one byte a page.
  Result<void> resident(uint64_t addr, uint64_t length, std::vector<uint8_t>& out);
  // mlock2(2), mlockall(2). CAP_IPC_LOCK is an unlimited `memlock`.
  enum class LockMode : uint8_t { kNow, kOnFault };
  Result<void> lock(uint64_t addr, uint64_t length, const Limits& limits,
                    LockMode mode = LockMode::kNow);
  Result<void> unlock(uint64_t addr, uint64_t length);
  Result<void> lock_all(int flags, const Limits& limits);
  void unlock_all();

  // The system call instruction that ends at `ip` stops often, with this number: lets the platform
  // make it cheaper where the text is of a file, private and not writable.
  void improve_call(uint64_t ip, uint64_t number);

  // --- faults
  FaultResult fault(uint64_t addr, Access access, const Limits& limits);

  // --- user memory. EFAULT when any part cannot be touched; faults pages in as a guest access
  // would. Never called with a lock held.
  Result<void> copy_in(uint64_t from, std::span<std::byte> to);
  Result<void> copy_out(uint64_t to, std::span<const std::byte> from);
  Result<void> zero(uint64_t to, size_t size);
  // Up to `max` bytes without the NUL; ENAMETOOLONG when there is no NUL within max + 1 bytes.
  Result<std::string> copy_in_string(uint64_t from, size_t max);
  // ENOENT for an empty path is the walker's business. ENAMETOOLONG from 4096 bytes on.
  Result<std::string> copy_in_path(UserPath path) { return copy_in_string(path.addr, 4095); }
  template <class T>
  Result<T> read(UserIn<T> from) {
    T value;
    TRY(copy_in(from.addr, writable_bytes_of(value)));
    return value;
  }
  template <class T>
  Result<void> write(UserOut<T> to, const T& value) {
    return copy_out(to.addr, bytes_of(value));
  }
  // `count` objects; the caller bounds count.
  template <class T>
  Result<std::vector<T>> read_array(UserIn<T> from, size_t count) {
    std::vector<T> values(count);
    TRY(copy_in(from.addr, std::as_writable_bytes(std::span(values))));
    return values;
  }

  // Pins [addr, addr + size) for reading by the Sentry (kRead) or for writing into (kWrite), at
  // most MAX_RW_COUNT of it. A prefix is pinned when only that can be touched; EFAULT when nothing
  // can, or when not all are user addresses (fs/read_write.c: vfs_read checks them before it cuts
  // the count).
  Result<Pinned> pin(uint64_t addr, size_t size, Access access);
  // The same for an iovec array of the guest: EINVAL over IOV_MAX or when the sum exceeds
  // SSIZE_MAX; lengths are capped to MAX_RW_COUNT (fs/read_write.c).
  Result<Pinned> pin_iovec(uint64_t iov, size_t count, Access access);

  // --- atomics on 32-bit words, for futexes, robust lists and CLEARTID. EINVAL when misaligned.
  Result<uint32_t> load_u32(uint64_t addr);
  Result<uint32_t> exchange_u32(uint64_t addr, uint32_t value);
  // True when it stored; `expected` gets the value found.
  Result<bool> compare_exchange_u32(uint64_t addr, uint32_t& expected, uint32_t desired);
  Result<FutexKey> futex_key(uint64_t addr, bool shared);

  // --- introspection
  std::vector<VmaInfo> vmas();
  Usage usage();
  Layout layout();
  void set_layout(Layout layout);
  Range user_addresses() const;
  std::atomic<bool> huge_pages_disabled{false};  // PR_SET_THP_DISABLE: inherited, without effect
  // Reads or writes like a debugger: through PROT_NONE, breaking COW (/proc/PID/mem, ptrace).
  Result<void> peek(uint64_t from, std::span<std::byte> to);
  Result<void> poke(uint64_t to, std::span<const std::byte> from);

  // --- MappingObserver
  void invalidate(PageSource& source, Range file_range, Gone gone) override;

 private:
  class Impl;
  explicit MemoryManager(std::unique_ptr<Impl> impl);
  Result<void> register_all();
  size_t pin_into(Pinned& pinned, uint64_t addr, size_t size, Access access);
  template <class Operate>
  Result<void> on_word(uint64_t addr, Access access, Operate&& operate);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace boxrun::mm
