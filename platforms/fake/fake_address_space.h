#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <optional>

#include "platforms/platform.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::platform {

// The mappings of a fake guest: a host mapping behind each guest range. Accesses look them up
// under the lock that apply() takes, so none can use what apply() withdrew.
class FakeAddressSpace final : public AddressSpace {
 public:
  FakeAddressSpace();
  FakeAddressSpace(FakeAddressSpace& like);  // the same mappings
  ~FakeAddressSpace() override;

  Result<void> apply(std::span<const Op> ops) override;
  // The host side dies: from now on apply() and every run() are lost. Any thread.
  void lose() { lost_.store(true); }
  bool lost() const { return lost_.load(); }

  struct Miss {
    uint64_t addr;
    bool bus_error;  // mapped and allowed, but beyond the end of the file
  };
  // Calls `use` with the host memory behind [addr, addr + size), piece by piece; it returns how
  // many bytes could be touched. Stops at the first byte that is not there or not allowed.
  std::optional<Miss> access(uint64_t addr, size_t size, Access access,
                             const std::function<size_t(std::byte*, size_t)>& use);

 private:
  // One host mapping, shared by the pieces of it that several address spaces still have.
  class HostMapping;
  struct Piece {
    uint64_t end;
    Prot prot;
    Ref<HostMapping> memory;
    uint64_t offset;  // of the piece's first byte in `memory`
  };

  Result<void> map(const Op& op) REQUIRES(mutex_);
  Result<void> protect(const Op& op) REQUIRES(mutex_);
  void unmap(Range range) REQUIRES(mutex_);
  // Makes `addr` a border between pieces.
  void split(uint64_t addr) REQUIRES(mutex_);

  std::atomic<bool> lost_{false};
  Mutex mutex_{Rank::kAddressSpace};
  std::map<uint64_t, Piece> pieces_ GUARDED_BY(mutex_);
};

}  // namespace boxrun::platform
