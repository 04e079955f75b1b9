#pragma once
#include <list>
#include <memory>

#include "gofer/client.h"
#include "sentry/fs/host_changes.h"
#include "src/base/ref.h"
#include "src/base/sync.h"

namespace boxrun::fs {

class P9Inode;

// The connection to the Gofer, and the bound on how many donated files are kept open only because
// somebody might open them again.
class P9Connection final : public RefCounted {
 public:
  // `max_kept` descriptors at most are kept by inodes that nobody has open.
  explicit P9Connection(std::unique_ptr<gofer::Client> client, size_t max_kept = 256)
      : client_(std::move(client)), max_kept_(max_kept) {}
  gofer::Client& client() { return *client_; }
  // Asks the Gofer to tell of changes by others. Null where it cannot. Before any file is used.
  HostChanges* listen();

 private:
  friend class P9Inode;
  // `inode` keeps a file from now on; the one that did so for the longest time may have to give up.
  void keeps(P9Inode& inode) EXCLUDES(mutex_);
  void keeps_no_more(P9Inode& inode) EXCLUDES(mutex_);
  // Gives up all that are only kept. False when there were none.
  bool keep_none() EXCLUDES(mutex_);
  Ref<P9Inode> take_oldest() EXCLUDES(mutex_);

  const std::unique_ptr<gofer::Client> client_;
  std::unique_ptr<HostChanges> changes_;
  const size_t max_kept_;
  Mutex mutex_{Rank::kP9};
  std::list<P9Inode*> keeping_ GUARDED_BY(mutex_);  // longest first; they leave in their destructor
};

}  // namespace boxrun::fs
