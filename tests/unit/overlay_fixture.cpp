#include "tests/unit/overlay_fixture.h"

#include <fmt/format.h>

#include <map>
#include <vector>

namespace boxrun::fs::testing {
namespace {

std::string content_of(View& view, const std::string& path, const vfs::Attributes& a) {
  if (a.type == vfs::FileType::kSymlink) {
    return vfs::read_link_at(view.caller, view.at(path)).value_or("?");
  }
  return a.type == vfs::FileType::kRegular ? view.read_file(path).value_or("?") : "";
}

std::string xattrs_of(View& view, const std::string& path) {
  const auto place = view.place(path, vfs::Follow::kNo);
  if (!place.ok()) return "?";
  const auto names = vfs::list_xattr(view.caller, *place);
  if (!names.ok()) return "";
  std::string text;
  for (const std::string& name : *names) {
    text += " " + name + "=" + vfs::get_xattr(view.caller, *place, name).value_or("?");
  }
  return text;
}

}  // namespace

std::string describe(View& view) {
  std::string text;
  std::map<uint64_t, std::string> first_names;
  std::vector<std::string> pending{""};
  while (!pending.empty()) {
    const std::string path = std::move(pending.back());
    pending.pop_back();
    const std::string name = path.empty() ? "/" : path;
    const auto found = view.stat(name, AT_SYMLINK_NOFOLLOW);
    if (!found.ok()) {
      text += fmt::format("{} is {}\n", name, errno_name(found.error()));
      continue;
    }
    const vfs::Attributes& a = *found;
    const bool directory = a.type == vfs::FileType::kDirectory;
    text += fmt::format("{} is {}: {:o} {}:{} links {} size {} mtime {} ctime {}{} '{}'\n", name,
                        first_names.try_emplace(a.ino, name).first->second, a.st_mode(), a.uid,
                        a.gid, a.nlink, directory ? 0 : a.size, a.mtime, a.ctime,
                        xattrs_of(view, name), content_of(view, name, a));
    if (!directory) continue;
    for (const std::string& child : view.list(name).value_or({"?"}))
      pending.push_back(path + "/" + child);
  }
  return text;
}

void forget_names(View& view) {
  for (int i = 0; i < 17'000; i++) (void)view.stat(fmt::format("/none{}", i));
}

}  // namespace boxrun::fs::testing
