// Pipes and FIFOs (pipe(7)).
#pragma once
#include <cstdint>

#include "sentry/fs/file_data.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/mount.h"

namespace boxrun::fs {

inline constexpr size_t kPipeBuf = 4096;             // PIPE_BUF: writes up to it are atomic
inline constexpr size_t kPipeCapacity = 65536;       // of a new pipe
inline constexpr size_t kPipeMaxCapacity = 1 << 20;  // fs.pipe-max-size
inline constexpr uint64_t kPipeQuota = 64 << 20;     // over all pipes: fs.pipe-user-pages-soft

// What all pipes of a sandbox share.
struct PipeSystem {
  Ref<vfs::Mount> mount;   // an AnonymousFileSystem "pipefs" (PIPEFS_MAGIC)
  Ref<SpaceQuota> quota;   // of kPipeQuota bytes
  mm::MemoryFile& memory;  // whose limit their buffers are of
};

struct PipePair {
  Ref<vfs::FileDescription> read, write;
};
// pipe2(2); `flags` of O_NONBLOCK and O_DIRECT. ENFILE when there is no memory for its buffer.
Result<PipePair> create_pipe(const PipeSystem& system, int flags, Ref<Credentials> credentials);

// open(2) of a FIFO: ENXIO for a writer that will not wait for a reader. Otherwise finish_open()
// says when the other end is there.
Result<Ref<vfs::FileDescription>> open_fifo(const PipeSystem& system, vfs::Inode& inode,
                                            const vfs::OpenRequest& request);

class Pipe;  // pipe_buffer.h
// What the ends of one pipe share; null for other files. Lives as long as the file.
Pipe* pipe_of(vfs::FileDescription& file);

// FileDescription::cut_partial of a pipe, which takes whole pages and forgets the one that could
// not be filled (fs/pipe.c: pipe_write).
Result<void> cut_to_pages(IoBuffers& from);

// F_GETPIPE_SZ and F_SETPIPE_SZ (fcntl(2)): EBADF for other files.
Result<size_t> pipe_capacity(vfs::FileDescription& file);
// Rounded up to a power of two pages; returns what it became. EBUSY when more than that is in the
// pipe, EPERM beyond the maximum without CAP_SYS_RESOURCE, EINVAL.
Result<size_t> set_pipe_capacity(vfs::FileDescription& file, uint64_t bytes,
                                 const Credentials& who);

}  // namespace boxrun::fs
