#include "src/cli/syscalls.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "sentry/syscalls/table.h"
#include "src/base/errno.h"
#include "src/profile/values.h"

namespace boxrun::cli {
namespace {

using syscalls::Support;
using syscalls::Syscall;
using Json = nlohmann::ordered_json;

std::string_view support_name(Support support) {
  switch (support) {
    case Support::kFull:
      return "full";
    case Support::kPartial:
      return "partial";
    case Support::kRefused:
      return "refused";
    case Support::kNone:
      break;
  }
  return "none";
}

// What a person wants to know beside the support: the note, or the errno that is returned.
std::string remark(const Syscall& row) {
  std::string note(row.note);
  if (row.support != Support::kRefused && row.support != Support::kNone) return note;
  const std::string_view error = errno_name(row.refusal);
  return note.empty() ? std::string(error) : fmt::format("{}: {}", error, note);
}

}  // namespace

std::string syscalls_table() {
  size_t counts[4] = {};
  std::string out =
      fmt::format("{:>4} {:<24} {:<9} {:<8} {}\n", "nr", "name", "group", "support", "note");
  for (const Syscall& row : syscalls::rows()) {
    out += fmt::format("{:>4} {:<24} {:<9} {:<8} {}", row.number, row.name,
                       syscalls::group_name(row.group), support_name(row.support), remark(row));
    while (out.back() == ' ') out.pop_back();
    out += '\n';
    ++counts[static_cast<size_t>(row.support)];
  }
  return out + fmt::format("{} full, {} partial, {} refused, {} none\n",
                           counts[static_cast<size_t>(Support::kFull)],
                           counts[static_cast<size_t>(Support::kPartial)],
                           counts[static_cast<size_t>(Support::kRefused)],
                           counts[static_cast<size_t>(Support::kNone)]);
}

std::string syscalls_json() {
  Json rows = Json::array();
  for (const Syscall& row : syscalls::rows()) {
    Json arguments = Json::array();
    for (int i = 0; i < row.argc; ++i) arguments.push_back(row.kinds[static_cast<size_t>(i)]);
    const bool answered = row.support == Support::kRefused || row.support == Support::kNone;
    rows.push_back({{"number", row.number},
                    {"name", row.name},
                    {"group", syscalls::group_name(row.group)},
                    {"support", support_name(row.support)},
                    {"errno", answered ? Json(errno_name(row.refusal)) : Json(nullptr)},
                    {"note", row.note.empty() ? Json(nullptr) : Json(row.note)},
                    {"arguments", std::move(arguments)}});
  }
  return Json{{"v", 1}, {"syscalls", std::move(rows)}}.dump(2) + "\n";
}

profile::Expected<bool> check_trace_group(std::string_view group) {
  if (group.empty() || syscalls::groups_named(group).any()) return true;
  if (const Syscall* row = syscalls::find(group)) {
    return profile::Error{fmt::format("'{}' is a system call, not a group; it is in the group '{}'",
                                      group, syscalls::group_name(row->group))};
  }
  std::vector<std::string_view> names;
  for (const Syscall& row : syscalls::rows()) {
    const std::string_view name = syscalls::group_name(row.group);
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  return profile::not_one_of(group, names);
}

}  // namespace boxrun::cli
