#pragma once
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_uname(Task& task, UserOut<utsname> out);
Result<uint64_t> sys_sysinfo(Task& task, UserOut<struct sysinfo> out);
Result<uint64_t> sys_getrandom(Task& task, UserOut<Bytes> buffer, Size size, Unsigned flags);
Result<uint64_t> sys_getcpu(Task& task, UserOut<unsigned> cpu, UserOut<unsigned> node,
                            Address cache);
Result<uint64_t> sys_sethostname(Task& task, UserIn<Bytes> name, Int size);
Result<uint64_t> sys_setdomainname(Task& task, UserIn<Bytes> name, Int size);
Result<uint64_t> sys_syslog(Task& task, Int type, UserOut<Bytes> buffer, Int size);
Result<uint64_t> sys_membarrier(Task& task, Int command, Unsigned flags, Int cpu);

}  // namespace boxrun::syscalls
