#pragma once
#include <optional>
#include <span>
#include <vector>

#include "platforms/platform.h"
#include "platforms/stub/file_table.h"
#include "platforms/stub/layout.h"
#include "platforms/stub/range_set.h"

namespace boxrun::platform {

// The host system calls that AddressSpace::apply() stands for in a stub.
struct MappingCalls {
  std::vector<StubCall> calls;
  // Why calls stop before the end of the operations: the next one cannot be expressed.
  Errno error = Errno::kOk;
  // Keeps what the calls map open in the stubs' table.
  std::vector<FileTable::Use> files;
};

// `mapped` is what the stub has mapped so far.
MappingCalls plan_mapping_calls(std::span<const Op> ops, const RangeSet& mapped, FileTable& files);

// Takes calls that the stub has made into account.
void note_mapping_calls(std::span<const StubCall> done, RangeSet& mapped);

}  // namespace boxrun::platform
