#pragma once
#include <memory>

#include "sentry/mm/memory_file.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/page_source.h"
#include "sentry/time/time_page.h"
#include "src/base/result.h"

namespace boxrun::loader {

// The time page and, right above it, the vDSO image: one extent of the memory file that all
// processes of a sandbox share. Outlives the kernel.
class VdsoPages {
 public:
  static Result<std::unique_ptr<VdsoPages>> create(mm::MemoryFile& memory_file);
  ~VdsoPages();

  // The Sentry's view of the time page.
  TimePage& time_page();
  // Maps both into a new process; returns where the image begins (AT_SYSINFO_EHDR).
  Result<uint64_t> map_into(mm::MemoryManager& mm, const mm::Limits& limits) const;

 private:
  class Source;
  explicit VdsoPages(Ref<Source> source);
  const Ref<Source> source_;
};

}  // namespace boxrun::loader
