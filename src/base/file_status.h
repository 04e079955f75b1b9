#pragma once
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/base/fd.h"
#include "src/base/result.h"

namespace boxrun {

// fstat(2) of a host descriptor, by the system call of that name: glibc's function makes
// newfstatat(2) of it, which takes a path and so has no place in the filter of a sealed process.
inline Result<struct stat> file_status(int fd) {
  struct stat status {};
  TRY(host_result(::syscall(SYS_fstat, fd, &status)));
  return status;
}

}  // namespace boxrun
