#pragma once
#include "sentry/syscalls/args.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

Result<uint64_t> sys_mmap(Task& task, Address addr, Size length, MapProt prot, MapFlags flags,
                          Fd fd, Offset offset);
Result<uint64_t> sys_munmap(Task& task, Address addr, Size length);
Result<uint64_t> sys_mprotect(Task& task, Address addr, Size length, MapProt prot);
Result<uint64_t> sys_pkey_mprotect(Task& task, Address addr, Size length, MapProt prot, Int key);
Result<uint64_t> sys_mremap(Task& task, Address addr, Size old_size, Size new_size, Int flags,
                            Address new_addr);
Result<uint64_t> sys_brk(Task& task, Address addr);
Result<uint64_t> sys_madvise(Task& task, Address addr, Size length, Int advice);
Result<uint64_t> sys_msync(Task& task, Address addr, Size length, Int flags);
Result<uint64_t> sys_mincore(Task& task, Address addr, Size length, UserOut<Bytes> residency);
Result<uint64_t> sys_mlock(Task& task, Address addr, Size length);
Result<uint64_t> sys_mlock2(Task& task, Address addr, Size length, Int flags);
Result<uint64_t> sys_munlock(Task& task, Address addr, Size length);
Result<uint64_t> sys_mlockall(Task& task, Int flags);
Result<uint64_t> sys_munlockall(Task& task);
Result<uint64_t> sys_mbind(Task& task, Address addr, ULong length, ULong mode, UserIn<Bytes> mask,
                           ULong max_node, Unsigned flags);
Result<uint64_t> sys_get_mempolicy(Task& task, UserOut<int> mode, UserOut<Bytes> mask,
                                   ULong max_node, Address addr, ULong flags);
Result<uint64_t> sys_set_mempolicy(Task& task, Int mode, UserIn<Bytes> mask, ULong max_node);

}  // namespace boxrun::syscalls
