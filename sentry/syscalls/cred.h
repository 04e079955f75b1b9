#pragma once
#include <linux/capability.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_getuid(Task& task);
Result<uint64_t> sys_getgid(Task& task);
Result<uint64_t> sys_geteuid(Task& task);
Result<uint64_t> sys_getegid(Task& task);
Result<uint64_t> sys_setuid(Task& task, Uid uid);
Result<uint64_t> sys_setgid(Task& task, Gid gid);
Result<uint64_t> sys_setreuid(Task& task, Uid ruid, Uid euid);
Result<uint64_t> sys_setregid(Task& task, Gid rgid, Gid egid);
Result<uint64_t> sys_setresuid(Task& task, Uid ruid, Uid euid, Uid suid);
Result<uint64_t> sys_setresgid(Task& task, Gid rgid, Gid egid, Gid sgid);
Result<uint64_t> sys_getresuid(Task& task, UserOut<uid_t> ruid, UserOut<uid_t> euid,
                               UserOut<uid_t> suid);
Result<uint64_t> sys_getresgid(Task& task, UserOut<gid_t> rgid, UserOut<gid_t> egid,
                               UserOut<gid_t> sgid);
Result<uint64_t> sys_setfsuid(Task& task, Uid uid);
Result<uint64_t> sys_setfsgid(Task& task, Gid gid);
Result<uint64_t> sys_getgroups(Task& task, Int count, UserOut<gid_t> groups);
Result<uint64_t> sys_setgroups(Task& task, Int count, UserIn<gid_t> groups);
Result<uint64_t> sys_capget(Task& task, UserInOut<__user_cap_header_struct> header,
                            UserOut<__user_cap_data_struct> data);
Result<uint64_t> sys_capset(Task& task, UserInOut<__user_cap_header_struct> header,
                            UserIn<__user_cap_data_struct> data);

}  // namespace boxrun::syscalls
