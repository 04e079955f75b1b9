// The host files behind a MemoryFile, made before the Sentry is sealed.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include <algorithm>

#include "sentry/mm/memory_file.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

namespace boxrun::mm {

Result<MemoryFile::Backing> MemoryFile::make_backing(int tmpfs_dir) {
  if (tmpfs_dir >= 0) {
    UniqueFd file = TRY(own_fd(openat(tmpfs_dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
    return Backing{.file = std::move(file), .huge_pages = true};
  }
  // vm.memfd_noexec=2 refuses memfds that do not renounce execve; mapping with PROT_EXEC stays
  // possible. Kernels before 6.3 do not know the flag.
  int fd = memfd_create("boxrun-memory", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("boxrun-memory", MFD_CLOEXEC);
  return Backing{.file = TRY(own_fd(fd))};
}

Result<void> MemoryFile::add_disk(Backing& backing, const char* path) {
  UniqueFd file = TRY(own_fd(open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
  struct statfs space;
  TRY(host_result(fstatfs(file.get(), &space)));
  const auto type = static_cast<uint64_t>(space.f_type);
  if (type == TMPFS_MAGIC || type == RAMFS_MAGIC) return Errno::kOpNotSupp;
  TRY(host_result(fallocate(file.get(), 0, 0, static_cast<off_t>(kPageSize))));
  rlimit largest{};
  TRY(host_result(getrlimit(RLIMIT_FSIZE, &largest)));
  const uint64_t free = space.f_bavail * static_cast<uint64_t>(space.f_frsize);
  const uint64_t bytes = std::min({free, kMaxDiskBytes, static_cast<uint64_t>(largest.rlim_cur)}) /
                         kHugePageSize * kHugePageSize;
  if (bytes == 0) return Errno::kNoSpc;
  // Whether the guest will be able to execute what it makes there.
  void* page = mmap(nullptr, kPageSize, PROT_READ | PROT_EXEC, MAP_SHARED, file.get(), 0);
  if (page == MAP_FAILED) return last_error();
  munmap(page, kPageSize);
  backing.disk = std::move(file);
  backing.disk_bytes = bytes;
  return {};
}

}  // namespace boxrun::mm
