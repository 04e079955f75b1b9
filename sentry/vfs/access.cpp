#include "sentry/vfs/access.h"

#include <linux/capability.h>

namespace boxrun::vfs {
namespace {

bool starts_with(std::string_view name, std::string_view prefix) {
  return name.substr(0, prefix.size()) == prefix;
}

// The setgid bit without group execute marks mandatory locking, not privilege, and stays
// (fs/attr.c: setattr_should_drop_sgid).
bool drops_setgid(const Attributes& file, const Credentials& who) {
  if ((file.mode & S_ISGID) == 0) return false;
  if ((file.mode & S_IXGRP) != 0) return true;
  return !who.in_group(file.gid) && !who.has_capability(CAP_FSETID);
}

Result<void> check_owner_change(const Attributes& file, const Credentials& who,
                                const AttributeChange& change) {
  if (who.has_capability(CAP_CHOWN)) return {};
  const bool owner = who.fsuid == file.uid;
  if (change.uid && !(owner && *change.uid == file.uid)) return Errno::kPerm;
  if (change.gid && !(owner && (*change.gid == file.gid || who.in_group(*change.gid)))) {
    return Errno::kPerm;
  }
  return {};
}

Result<void> check_times_change(const Attributes& file, const Credentials& who,
                                const AttributeChange& change, TimesBy times_by) {
  if (!change.atime && !change.mtime) return {};
  if (is_owner_or_capable(file, who)) return {};
  // utimensat(2): both to the current time is also for whoever may write.
  const bool touch = change.atime && change.atime->now && change.mtime && change.mtime->now;
  if (times_by != TimesBy::kWriter || !touch) return Errno::kPerm;
  return check_access(file, who, kMayWrite);
}

}  // namespace

Result<void> check_access(const Attributes& file, const Credentials& who, AccessMask mask) {
  const bool directory = file.type == FileType::kDirectory;
  mode_t granted = file.mode & 7;
  if (who.fsuid == file.uid) {
    granted = file.mode >> 6 & 7;
  } else if ((file.mode >> 3 & 7) != (file.mode & 7) && who.in_group(file.gid)) {
    granted = file.mode >> 3 & 7;
  }
  if ((mask & ~granted) == 0) return {};
  // fs/namei.c: generic_permission.
  const bool reads_only = (mask & kMayWrite) == 0 && (directory || (mask & kMayExec) == 0);
  if (reads_only && who.has_capability(CAP_DAC_READ_SEARCH)) return {};
  const bool may_override = directory || (mask & kMayExec) == 0 || (file.mode & 0111) != 0;
  if (may_override && who.has_capability(CAP_DAC_OVERRIDE)) return {};
  return Errno::kAcces;
}

bool is_owner_or_capable(const Attributes& file, const Credentials& who) {
  return who.fsuid == file.uid || who.has_capability(CAP_FOWNER);
}

bool sticky_forbids(const Attributes& directory, const Attributes& victim, const Credentials& who) {
  return (directory.mode & S_ISVTX) != 0 && who.fsuid != victim.uid && who.fsuid != directory.uid &&
         !who.has_capability(CAP_FOWNER);
}

Result<void> prepare_change(const Attributes& file, const Credentials& who, AttributeChange& change,
                            TimesBy times_by) {
  TRY(check_owner_change(file, who, change));
  if (change.mode) {
    if (!is_owner_or_capable(file, who)) return Errno::kPerm;
    const gid_t gid = change.gid.value_or(file.gid);
    if (!who.in_group(gid) && !who.has_capability(CAP_FSETID)) *change.mode &= ~mode_t{S_ISGID};
  }
  TRY(check_times_change(file, who, change, times_by));
  if ((change.uid || change.gid) && !change.mode && file.type != FileType::kDirectory) {
    // fs/open.c: chown_common; whoever does it, root included.
    mode_t mode = file.mode & ~mode_t{S_ISUID};
    if (drops_setgid(file, who)) mode &= ~mode_t{S_ISGID};
    if (mode != file.mode) change.mode = mode;
  }
  if (change.size && !change.mode && file.type == FileType::kRegular) {
    const mode_t mode = mode_after_write(file, who);
    if (mode != file.mode) change.mode = mode;
  }
  return {};
}

mode_t mode_after_write(const Attributes& file, const Credentials& who) {
  if (who.has_capability(CAP_FSETID)) return file.mode;
  mode_t mode = file.mode & ~mode_t{S_ISUID};
  if (drops_setgid(file, who)) mode &= ~mode_t{S_ISGID};
  return mode;
}

void prepare_new_node(const Attributes& directory, const Credentials& who, mode_t umask,
                      NewNode& node) {
  node.uid = who.fsuid;
  node.gid = who.fsgid;
  if (node.type == FileType::kSymlink) {
    node.mode = 0777;
  } else {
    node.mode &= kPermissionBits & ~(umask & kAccessBits);
  }
  if ((directory.mode & S_ISGID) == 0) return;
  node.gid = directory.gid;
  if (node.type == FileType::kDirectory) {
    node.mode |= S_ISGID;
  } else if ((node.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
             !who.in_group(directory.gid) && !who.has_capability(CAP_FSETID)) {
    node.mode &= ~mode_t{S_ISGID};
  }
}

Result<void> check_xattr(const Attributes& file, const Credentials& who, std::string_view name,
                         AccessMask mask) {
  const bool writes = (mask & kMayWrite) != 0;
  // fs/xattr.c: xattr_permission.
  if (starts_with(name, "security.")) {
    if (writes &&
        !who.has_capability(name == "security.capability" ? CAP_SETFCAP : CAP_SYS_ADMIN)) {
      return Errno::kPerm;
    }
    return {};
  }
  if (starts_with(name, "trusted.")) {
    if (who.has_capability(CAP_SYS_ADMIN)) return {};
    return writes ? Errno::kPerm : Errno::kNoData;
  }
  if (starts_with(name, "user.")) {
    if (file.type != FileType::kRegular && file.type != FileType::kDirectory) {
      return writes ? Errno::kPerm : Errno::kNoData;
    }
    if (file.type == FileType::kDirectory && (file.mode & S_ISVTX) != 0 && writes &&
        !is_owner_or_capable(file, who)) {
      return Errno::kPerm;
    }
    return check_access(file, who, mask);
  }
  return Errno::kOpNotSupp;
}

}  // namespace boxrun::vfs
