// Who may do what: the checks of fs/namei.c and fs/attr.c, by mode bits, ownership and
// capabilities. All are pure functions of what they are given.
#pragma once
#include "sentry/cred/credentials.h"
#include "sentry/vfs/attributes.h"
#include "sentry/vfs/inode.h"
#include "src/base/result.h"

namespace boxrun::vfs {

// By owner, group, others; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. EACCES. Uses the fsuid.
Result<void> check_access(const Attributes& file, const Credentials& who, AccessMask mask);
// The fsuid owns the file, or CAP_FOWNER.
bool is_owner_or_capable(const Attributes& file, const Credentials& who);
// Whether the sticky bit of `directory` keeps `who` from removing `victim` (may_delete).
bool sticky_forbids(const Attributes& directory, const Attributes& victim, const Credentials& who);

// Checks a change and completes it (setattr_prepare, setattr_should_drop_suidgid): EPERM, EACCES.
// chmod by one who is not in the group loses setgid; chown loses setuid and setgid; times set to
// now need only write permission when `times_touch`.
enum class TimesBy : uint8_t { kOwner, kWriter };
Result<void> prepare_change(const Attributes& file, const Credentials& who, AttributeChange& change,
                            TimesBy times_by = TimesBy::kOwner);
// The mode that remains after somebody without CAP_FSETID has written to the file.
mode_t mode_after_write(const Attributes& file, const Credentials& who);

// Completes a node about to be made in `directory`: owner from `who`, group and setgid inherited
// from setgid directories (inode_init_owner), umask applied.
void prepare_new_node(const Attributes& directory, const Credentials& who, mode_t umask,
                      NewNode& node);

// Attribute names by namespace (xattr(7)): user. needs access to a regular file or directory,
// trusted. and security. a capability. EOPNOTSUPP for unknown ones.
Result<void> check_xattr(const Attributes& file, const Credentials& who, std::string_view name,
                         AccessMask mask);

}  // namespace boxrun::vfs
