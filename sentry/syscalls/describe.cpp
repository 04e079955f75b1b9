#include "sentry/syscalls/describe.h"

#include <fmt/format.h>

#include "sentry/kernel/task.h"
#include "sentry/syscalls/table.h"

namespace boxrun::syscalls {

std::string syscall_name(uint64_t number) {
  const Syscall* row = find(number);
  return row != nullptr ? std::string(row->name) : fmt::format("syscall_{}", number);
}

std::string describe_call(Task& task, const Frame& frame) {
  const Syscall* row = find(frame.number);
  std::string text = syscall_name(frame.number) + "(";
  if (row != nullptr && row->print != nullptr) {
    row->print(task, frame, text);
  } else {
    // No signature to go by: the registers, as strace does with unknown calls.
    for (size_t i = 0; i < frame.args.size(); i++) {
      if (i > 0) text += ", ";
      internal::print_hex(frame.args[i], text);
    }
  }
  return text + ")";
}

Frame current_frame(Task& task) {
  Frame frame;
  frame.number = task.cpu().syscall_number();
  for (size_t i = 0; i < frame.args.size(); i++) frame.args[i] = task.cpu().syscall_arg(i);
  return frame;
}

namespace internal {

void print_string(Task& task, uint64_t addr, std::string& out) {
  constexpr size_t kShown = 512;
  if (addr == 0) {
    out += "NULL";
    return;
  }
  auto text = task.mm().copy_in_string(addr, 4095);
  if (!text.ok()) {
    print_hex(addr, out);
    return;
  }
  out += '"';
  for (const char c : text->substr(0, kShown)) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
  if (text->size() > kShown) out += "...";
}

}  // namespace internal
}  // namespace boxrun::syscalls
