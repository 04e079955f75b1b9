#include "src/cli/caller.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <optional>

#include "src/base/errno_text.h"
#include "src/profile/read_file.h"
#include "src/profile/values.h"

namespace boxrun::cli {

using profile::Error;
using profile::Expected;

namespace {

// Calls `line(fields)` for each line of a colon-separated file until it returns true.
template <class Line>
void each_entry(const char* path, size_t field_count, Line line) {
  const Result<std::string> text = profile::read_file(path);
  if (!text) return;
  for (std::string_view rest = *text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view entry = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    std::vector<std::string_view> fields;
    while (true) {
      const size_t colon = std::min(entry.find(':'), entry.size());
      fields.push_back(entry.substr(0, colon));
      if (colon == entry.size()) break;
      entry.remove_prefix(colon + 1);
    }
    if (fields.size() == field_count && line(fields)) return;
  }
}

// A uid or gid; (uid_t)-1 means "no change" to the kernel and is nobody's.
std::optional<uint32_t> parse_id(std::string_view text) {
  const Expected<uint64_t> number = profile::parse_count(text);
  if (!number.ok() || *number >= UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

// passwd(5): name:password:uid:gid:gecos:home:shell.
template <class Wanted>
std::optional<IdentitySpec> find_user(Wanted wanted) {
  std::optional<IdentitySpec> found;
  each_entry("/etc/passwd", 7, [&](const std::vector<std::string_view>& fields) {
    const std::optional<uint32_t> uid = parse_id(fields[2]);
    const std::optional<uint32_t> gid = parse_id(fields[3]);
    if (!uid || !gid || !wanted(fields[0], *uid)) return false;
    found.emplace();
    found->uid = *uid;
    found->gid = *gid;
    found->name = fields[0];
    found->home = fields[5];
    found->shell = fields[6];
    return true;
  });
  return found;
}

// group(5): name:password:gid:member,member.
std::vector<gid_t> groups_of(const IdentitySpec& user) {
  std::vector<gid_t> groups{user.gid};
  each_entry("/etc/group", 4, [&](const std::vector<std::string_view>& fields) {
    const std::optional<uint32_t> gid = parse_id(fields[2]);
    const std::string members = fmt::format(",{},", fields[3]);
    if (gid && *gid != user.gid && members.find("," + user.name + ",") != std::string::npos) {
      groups.push_back(*gid);
    }
    return false;
  });
  return groups;
}

Expected<IdentitySpec> other_user(const Caller& caller, const std::string& user) {
  const std::optional<uint32_t> number = parse_id(user);
  std::optional<IdentitySpec> found = find_user(
      [&](std::string_view name, uint32_t uid) { return number ? uid == *number : name == user; });
  if (!found && number) {
    // As for docker run: a number needs no entry; its group is the one of that number.
    found.emplace();
    found->uid = found->gid = *number;
    found->name = user;
    found->home = "/";
    found->shell = "/bin/sh";
  }
  if (!found) return Error{fmt::format("there is no user '{}'", user)};
  if (found->uid != caller.uid && caller.uid != 0) {
    return Error{fmt::format("--user {}: only root can run as somebody else", user)};
  }
  found->groups = groups_of(*found);
  return *found;
}

}  // namespace

std::string_view Caller::variable(std::string_view name) const {
  for (const std::string& entry : environment) {
    const std::string_view text = entry;
    if (text.starts_with(name) && text.substr(name.size()).starts_with('=')) {
      return text.substr(name.size() + 1);
    }
  }
  return {};
}

Caller this_caller() {
  Caller caller;
  for (char** entry = environ; *entry != nullptr; ++entry) caller.environment.emplace_back(*entry);
  char cwd[PATH_MAX];
  if (::getcwd(cwd, sizeof cwd) == nullptr || cwd[0] != '/') {
    caller.cwd_problem =
        fmt::format("the current directory cannot be found: {}", errno_text(last_error()));
  } else {
    caller.cwd = cwd;
  }
  caller.uid = ::getuid();
  caller.gid = ::getgid();
  const int count = ::getgroups(0, nullptr);
  caller.groups.resize(count > 0 ? static_cast<size_t>(count) : 0);
  const int filled = ::getgroups(count, caller.groups.data());
  caller.groups.resize(filled > 0 ? static_cast<size_t>(filled) : 0);
  return caller;
}

Expected<IdentitySpec> resolve_identity(const Caller& caller, const std::string& user) {
  if (!user.empty()) return other_user(caller, user);
  const std::string sudo_uid(caller.variable("SUDO_UID"));
  if (caller.uid == 0 && parse_id(sudo_uid).value_or(0) != 0) return other_user(caller, sudo_uid);

  IdentitySpec self;
  if (const auto found = find_user([&](auto, uint32_t uid) { return uid == caller.uid; })) {
    self = *found;
  } else {
    self.name = std::to_string(caller.uid);
    self.home = "/";
    self.shell = "/bin/sh";
  }
  self.uid = caller.uid;
  self.gid = caller.gid;
  self.groups = caller.groups;
  const std::string_view home = caller.variable("HOME");
  if (home.starts_with('/')) self.home = home;
  return self;
}

}  // namespace boxrun::cli
