// A platform for tests of mm: translations are a table, and a guest access is a table look-up that
// goes to MemoryManager::fault when it fails, as a stub's would.
#pragma once
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "platforms/platform.h"
#include "sentry/mm/memory_manager.h"

namespace boxrun::mm::test {

using platform::Op;

// What a guest access came to.
enum class Touch { kDone, kSegv, kBus, kOom };

class FakeSpace final : public platform::AddressSpace {
 public:
  struct Entry {
    int fd;
    uint64_t offset;
    Prot prot;
  };

  FakeSpace() = default;
  FakeSpace(const FakeSpace& like) : platform::AddressSpace(), table_(like.table_) {}

  Result<void> apply(std::span<const Op> ops) override {
    std::lock_guard lock(mutex_);
    applies++;
    for (const Op& op : ops) {
      if (fail_at && (*fail_at)-- == 0) {
        fail_at.reset();
        return fail_with;
      }
      operations++;
      if (!page_aligned(op.guest.start) || !page_aligned(op.guest.end) || op.guest.empty()) abort();
      if (op.kind == Op::Kind::kMap && refused.contains(op.host_fd) && has(op.prot, Prot::kExec)) {
        return Errno::kPerm;
      }
      if (op.kind == Op::Kind::kUnmap) {
        table_.erase(table_.lower_bound(op.guest.start), table_.lower_bound(op.guest.end));
        continue;
      }
      if (op.kind == Op::Kind::kProtect) {
        for (auto at = table_.lower_bound(op.guest.start);
             at != table_.end() && at->first < op.guest.end; ++at) {
          at->second.prot = op.prot;
        }
        continue;
      }
      for (uint64_t p = op.guest.start; p < op.guest.end; p += kPageSize) {
        table_[p] = {op.host_fd, op.offset + (p - op.guest.start), op.prot};
      }
    }
    return {};
  }

  std::optional<Entry> find(uint64_t addr) {
    std::lock_guard lock(mutex_);
    const auto at = table_.find(page_down(addr));
    if (at == table_.end()) return std::nullopt;
    return at->second;
  }
  size_t pages() {
    std::lock_guard lock(mutex_);
    return table_.size();
  }

  int applies = 0;
  int operations = 0;
  std::set<int> refused;       // files that may not be mapped with PROT_EXEC
  std::optional<int> fail_at;  // the operation, counted from now, that fails
  Errno fail_with = Errno::kNoMem;

 private:
  std::mutex mutex_;
  std::map<uint64_t, Entry> table_;
};

class FakePlatform final : public platform::Platform {
 public:
  std::string_view name() const override { return "mm test"; }
  Range user_addresses() const override { return {0x10000, 0x7ffffffff000}; }
  Result<std::unique_ptr<platform::AddressSpace>> new_address_space(
      platform::AddressSpace* like) override {
    if (like == nullptr) return std::unique_ptr<platform::AddressSpace>(new FakeSpace());
    return std::unique_ptr<platform::AddressSpace>(new FakeSpace(static_cast<FakeSpace&>(*like)));
  }
  Result<std::unique_ptr<platform::Context>> new_context() override { return Errno::kNoSys; }
  std::span<const platform::HostSyscall> host_syscalls() const override { return {}; }
};

inline FakeSpace& space_of(MemoryManager& mm) {
  return static_cast<FakeSpace&>(mm.address_space());
}

// One guest access of up to a page's rest. `knows` is false for a platform like ptrace, that cannot
// say what an access wanted.
inline Touch touch(MemoryManager& mm, uint64_t addr, std::span<std::byte> data, Access access,
                   bool knows = true, int* faults = nullptr) {
  for (int i = 0; i < 100; i++) {
    const auto entry = space_of(mm).find(addr);
    const Prot needed = access == Access::kWrite     ? Prot::kWrite
                        : access == Access::kExecute ? Prot::kExec
                                                     : Prot::kRead;
    if (entry && has(entry->prot, needed)) {
      const auto offset = static_cast<off_t>(entry->offset);
      struct stat st {};
      fstat(entry->fd, &st);
      if (offset < st.st_size) {
        const auto at = offset + static_cast<off_t>(addr % kPageSize);
        if (access == Access::kWrite) {
          (void)!pwrite(entry->fd, data.data(), data.size(), at);
        } else {
          std::fill(data.begin(), data.end(), std::byte{});
          (void)!pread(entry->fd, data.data(), data.size(), at);
        }
        return Touch::kDone;
      }
    }
    if (faults != nullptr) ++*faults;
    switch (mm.fault(addr, knows ? access : Access::kUnknown, Limits{})) {
      case FaultResult::kResolved:
        continue;
      case FaultResult::kMapError:
      case FaultResult::kAccessError:
        return Touch::kSegv;
      case FaultResult::kBusError:
        return Touch::kBus;
      case FaultResult::kNoMemory:
        return Touch::kOom;
    }
  }
  abort();  // a fault that is never resolved
}

inline Touch store(MemoryManager& mm, uint64_t addr, uint8_t value, bool knows = true) {
  std::byte b{value};
  return touch(mm, addr, {&b, 1}, Access::kWrite, knows);
}

// The byte a guest load finds, or -1 for SIGSEGV, -2 for SIGBUS.
inline int load(MemoryManager& mm, uint64_t addr, bool knows = true) {
  std::byte b{};
  switch (touch(mm, addr, {&b, 1}, Access::kRead, knows)) {
    case Touch::kDone:
      return static_cast<int>(b);
    case Touch::kSegv:
      return -1;
    case Touch::kBus:
      return -2;
    case Touch::kOom:
      return -3;
  }
  return -4;
}

}  // namespace boxrun::mm::test
