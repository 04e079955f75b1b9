#pragma once
#include <sys/types.h>

#include "src/base/ref.h"

namespace boxrun::vfs {

// A terminal as job control sees it. The kernel keys its sessions by this object; file
// descriptions of a tty return it from terminal(), and the system call layer asks the kernel
// before a read or write whether the caller is in the foreground.
class Terminal : public RefCounted {
 public:
  // Whether output from the background raises SIGTTOU (TOSTOP in termios).
  virtual bool stops_background_output() = 0;
  // Tells the owner of the real terminal who is in the foreground now, for ^C and ^Z.
  virtual void foreground_changed(pid_t group) = 0;
};

}  // namespace boxrun::vfs
