#include "sentry/fs/mem_fd.h"

#include <fcntl.h>
#include <linux/memfd.h>

#include <string>
#include <utility>

#include "sentry/fs/tmp_fs.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC 0x0010U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

namespace boxrun::fs {
namespace {

constexpr size_t kMaxMemfdName = 249;  // NAME_MAX less "memfd:" (memfd_create(2))
constexpr uint32_t kKnownSeals =
    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;

FileData* sealable(vfs::FileDescription& file) {
  auto* inode = dynamic_cast<TmpInode*>(&file.inode());
  return inode == nullptr ? nullptr : inode->data().get();
}

}  // namespace

Result<Ref<vfs::FileDescription>> create_memfd(const Ref<vfs::Mount>& mount, std::string_view name,
                                               uint32_t flags, Ref<Credentials> credentials) {
  if ((flags & ~(MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC)) != 0) return Errno::kInval;
  if ((flags & MFD_EXEC) != 0 && (flags & MFD_NOEXEC_SEAL) != 0) return Errno::kInval;
  if (name.size() > kMaxMemfdName) return Errno::kInval;
  const bool executable = (flags & MFD_NOEXEC_SEAL) == 0;
  uint32_t seals = executable ? 0 : F_SEAL_EXEC;
  if ((flags & MFD_ALLOW_SEALING) == 0 && executable) seals |= F_SEAL_SEAL;
  auto& file_system = static_cast<TmpFs&>(mount->file_system());
  const vfs::NewNode node{.type = vfs::FileType::kRegular,
                          .mode = executable ? mode_t{0777} : mode_t{0666},
                          .uid = credentials->fsuid,
                          .gid = credentials->fsgid};
  std::string shown = "/memfd:" + std::string(name) + " (deleted)";
  Ref<TmpInode> inode = TRY(file_system.make_unnamed(node, {0, 0, shown}, seals));
  vfs::Path path{mount, file_system.dentries().make_root(std::move(shown), inode)};
  return inode->open({O_RDWR | vfs::kLargeFile, std::move(path), std::move(credentials)});
}

Result<uint32_t> seals_of(vfs::FileDescription& file) {
  FileData* data = sealable(file);
  if (data == nullptr) return Errno::kInval;
  return data->seals();
}

Result<void> add_seals(vfs::FileDescription& file, uint32_t seals) {
  if (!file.writable()) return Errno::kPerm;
  if ((seals & ~kKnownSeals) != 0) return Errno::kInval;
  FileData* data = sealable(file);
  if (data == nullptr) return Errno::kInval;
  return data->add_seals(seals);
}

}  // namespace boxrun::fs
