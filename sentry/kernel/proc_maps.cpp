// /proc/PID/maps (fs/proc/task_mmu.c: show_map_vma).
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include "sentry/kernel/proc_node.h"

namespace boxrun::kernel {
namespace {

constexpr size_t kNameColumn = 72;  // then a blank: 25 + 6 * sizeof(void*) - 1
constexpr size_t kMaxText = size_t{64} << 20;

void add_line(std::string& out, const mm::VmaInfo& vma) {
  std::string line = fmt::format(
      "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ", vma.range.start, vma.range.end,
      has(vma.prot, mm::Prot::kRead) ? 'r' : '-', has(vma.prot, mm::Prot::kWrite) ? 'w' : '-',
      has(vma.prot, mm::Prot::kExec) ? 'x' : '-', vma.shared ? 's' : 'p', vma.offset,
      major(vma.file.dev), minor(vma.file.dev), vma.file.ino);
  const std::string& name = vma.name.empty() ? vma.file.path : vma.name;
  if (!name.empty()) {
    line.resize(std::max(line.size(), kNameColumn + 1), ' ');
    for (const char c : name) {
      if (c == '\n') {
        line += "\\012";
      } else {
        line += c;
      }
    }
  }
  out += line + '\n';
}

}  // namespace

Result<std::string> proc_maps(const ProcSubject& subject) {
  const Ref<mm::MemoryManager> memory = TRY(subject.task())->resources().mm;
  std::string out;
  if (!memory) return out;
  for (const mm::VmaInfo& vma : memory->vmas()) {
    if (out.size() > kMaxText) break;
    add_line(out, vma);
  }
  return out;
}

}  // namespace boxrun::kernel
