// Moving bytes between files and memory the way read(2) and write(2) do: waiting, job control of
// terminals, SIGPIPE and SIGXFSZ are dealt with here, once.
#pragma once
#include <cstdint>
#include <optional>

#include "sentry/kernel/task.h"
#include "sentry/syscalls/args.h"
#include "sentry/vfs/file_description.h"
#include "src/base/bytes.h"
#include "src/base/result.h"

namespace boxrun::syscalls {

// Where in a file: at its own position, which moves on, or elsewhere.
class At {
 public:
  static At position() { return At(-1); }
  static At offset(int64_t offset) { return At(offset); }  // >= 0
  bool at_position() const { return offset_ < 0; }
  int64_t value() const { return offset_; }

 private:
  explicit At(int64_t offset) : offset_(offset) {}
  int64_t offset_;
};

// Whether to wait for a file that is not ready: as its O_NONBLOCK says, or never.
enum class Wait : uint8_t { kByFile, kNo };

struct WriteHow {
  bool append = false;
  bool data_sync = false;
  Wait wait = Wait::kByFile;
};

// Bytes read; 0 at the end of the file.
Result<uint64_t> read_file(Task& task, vfs::FileDescription& file, IoBuffers to, At at, Wait wait);
// Bytes written. A blocking stream takes all of them unless a signal comes in between.
Result<uint64_t> write_file(Task& task, vfs::FileDescription& file, IoBuffers from, At at,
                            WriteHow how);
// The offset that sendfile(2) and its kin were pointed to; none for a null pointer. EINVAL when
// negative.
Result<std::optional<int64_t>> read_offset(Task& task, UserInOut<int64_t> at);
// EINVAL when `size` bytes from there on reach beyond the last offset (fs/read_write.c:
// rw_verify_area).
Result<void> check_area(std::optional<int64_t> offset, uint64_t size);
// Moves it on, if there is one.
Result<void> write_offset(Task& task, UserInOut<int64_t> at, std::optional<int64_t> before,
                          uint64_t moved);
// EPIPE, with its SIGPIPE (write(2)).
Errno broken_pipe(Task& task);
// EFBIG, with the SIGXFSZ that RLIMIT_FSIZE brings (setrlimit(2)).
Errno file_too_big(Task& task);

}  // namespace boxrun::syscalls
