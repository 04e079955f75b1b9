#pragma once
#include <sys/types.h>

#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::vfs {

class FileDescription;
struct OpenRequest;

// A terminal as job control sees it. The kernel keys its sessions by this object; file
// descriptions of a tty return it from terminal(), and the system call layer asks the kernel
// before a read or write whether the caller is in the foreground.
class Terminal : public RefCounted {
 public:
  // Whether output from the background raises SIGTTOU (TOSTOP in termios).
  virtual bool stops_background_output() = 0;
  // Whether the sandbox as a whole is a background job of the terminal's owner, so that nobody
  // inside it is in the foreground. False where the terminal does not control the sandbox.
  virtual bool sandbox_in_background() = 0;
  // Tells the owner of the real terminal who is in the foreground now, for ^C and ^Z.
  virtual void foreground_changed(pid_t group) = 0;
  // What opening /dev/tty gives to those whose controlling terminal this is.
  virtual Result<Ref<FileDescription>> open(const OpenRequest& request) = 0;
};

}  // namespace boxrun::vfs
