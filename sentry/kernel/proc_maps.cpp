// /proc/PID/maps (fs/proc/task_mmu.c: show_map_vma).
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include "sentry/kernel/proc_node.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::kernel {
namespace {

constexpr size_t kNameColumn = 72;  // then a blank: 25 + 6 * sizeof(void*) - 1
constexpr size_t kMaxText = size_t{64} << 20;

// Of the file that was mapped, as the reader sees it today, or what the mapping is called.
std::string name_of(Kernel& kernel, const mm::VmaInfo& vma) {
  if (!vma.name.empty() || !vma.opened) return vma.name.empty() ? vma.file.path : vma.name;
  return path_for_reader(kernel, static_cast<vfs::FileDescription&>(*vma.opened).path());
}

void add_line(std::string& out, const mm::VmaInfo& vma, const std::string& name) {
  std::string line = fmt::format(
      "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ", vma.range.start, vma.range.end,
      has(vma.prot, mm::Prot::kRead) ? 'r' : '-', has(vma.prot, mm::Prot::kWrite) ? 'w' : '-',
      has(vma.prot, mm::Prot::kExec) ? 'x' : '-', vma.shared ? 's' : 'p', vma.offset,
      major(vma.file.dev), minor(vma.file.dev), vma.file.ino);
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
    add_line(out, vma, name_of(subject.kernel(), vma));
  }
  return out;
}

}  // namespace boxrun::kernel
