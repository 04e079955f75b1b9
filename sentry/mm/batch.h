#pragma once
#include <optional>
#include <vector>

#include "platforms/platform.h"
#include "sentry/mm/memory_file.h"
#include "sentry/mm/range_map.h"
#include "sentry/mm/vma.h"
#include "src/base/range.h"
#include "src/base/result.h"

namespace boxrun::mm {

// The changes one operation makes to the page map of an mm, collected so that the platform gets
// them in one trip. run() tells the platform first and the page map afterwards, and gives up the
// references on replaced pages last: nothing that a guest could still reach is ever free
// ("attested withdrawal"). A Batch that is not run gives back the pages it was handed.
class Batch {
 public:
  explicit Batch(MemoryFile& file) : file_(file) {}
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // Replaces whatever is at `guest`. Takes over one reference on each page of the memory file.
  void map(Range guest, Pages pages);
  // Sets protection, and copy-on-write where given, of the pages there are in `guest`.
  void protect(Range guest, platform::Prot prot, std::optional<bool> cow = std::nullopt);
  void unmap(Range guest);
  bool empty() const { return changes_.empty(); }
  bool touches(uint64_t addr) const;

  // After an error the page map is as before; what it says but the platform lost comes back with
  // the guest's next fault. `user` is all of the address space. `quarantine` gets pages that can
  // neither be used nor freed, since the platform refused to withdraw them.
  Result<void> run(platform::AddressSpace& space, Range user, RangeMap<Pages>& pages,
                   std::vector<Range>& quarantine);

 private:
  struct Change {
    platform::Op::Kind kind;
    Range guest;
    Pages pages;  // kMap; prot also for kProtect
    std::optional<bool> cow;
  };
  std::vector<platform::Op> ops(const RangeMap<Pages>& pages) const;
  void withdraw(platform::AddressSpace& space, Range user, std::vector<Range>& quarantine);

  MemoryFile& file_;
  std::vector<Change> changes_;
};

}  // namespace boxrun::mm
