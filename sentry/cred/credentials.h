#pragma once
#include <linux/capability.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "src/base/ref.h"

namespace boxrun {

// A set of capabilities(7), one bit each.
struct CapSet {
  uint64_t bits = 0;
  constexpr bool has(int cap) const { return (bits >> cap & 1) != 0; }
  constexpr bool operator==(const CapSet&) const = default;
  static constexpr CapSet all() { return {(uint64_t{1} << (CAP_LAST_CAP + 1)) - 1}; }
};

// A user namespace: only the initial one so far. Identity matters, not contents.
class UserNamespace final : public RefCounted {};

// Who a task is (credentials(7)). Immutable: a change makes a copy and swaps the task's Ref, so a
// reader's snapshot is consistent.
class Credentials final : public RefCounted {
 public:
  uid_t ruid = 0, euid = 0, suid = 0, fsuid = 0;
  gid_t rgid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<gid_t> groups;  // sorted, without duplicates
  CapSet permitted, effective, inheritable, bounding, ambient;
  uint32_t securebits = 0;
  Ref<UserNamespace> user_ns;

  Credentials() = default;
  // A copy to change before it is shared.
  Ref<Credentials> clone() const;

  bool has_capability(int cap) const { return effective.has(cap); }
  // fsgid or a supplementary group, as file permission checks want it.
  bool in_group(gid_t gid) const;
  // Linux's rules when uids change from `before` to *this (capabilities(7), "Effect of user ID
  // changes on capabilities").
  void adjust_capabilities_for_uid_change(const Credentials& before);

  // What the first task gets: the user himself, or a root with the capabilities in `caps`.
  static Ref<Credentials> create(uid_t uid, gid_t gid, std::vector<gid_t> groups, CapSet caps);

 private:
  Credentials(const Credentials& other);
};

}  // namespace boxrun
