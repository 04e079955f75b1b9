// Open files of a 9P mount, and what mappings of them read.
#pragma once
#include <sys/stat.h>

#include "gofer/client.h"
#include "sentry/mm/page_source.h"
#include "sentry/vfs/file_description.h"

namespace boxrun::fs {

class P9Fs;
class P9Inode;
class P9Listing;

// One file opened by the Gofer: the donated descriptor, or an open fid of a peer that donates
// nothing. Shared by the open files and mappings that its access suffices for.
class P9HostFile final : public RefCounted {
 public:
  P9HostFile(gofer::Client& client, gofer::RemoteOpen opened, int access)
      : client_(client), opened_(std::move(opened)), access_(access) {}
  // -1: reads and writes go through the Gofer.
  int fd() const { return opened_.file.get(); }
  bool serves(int flags) const { return access_ == O_RDWR || access_ == (flags & O_ACCMODE); }
  Result<size_t> read(IoBuffers& to, uint64_t offset);
  Result<size_t> write(IoBuffers& from, uint64_t offset, int rwf_flags);
  Result<void> sync(bool data_only);
  Result<struct stat> stat() const;  // EOPNOTSUPP without a descriptor

 private:
  gofer::Client& client_;
  const gofer::RemoteOpen opened_;
  const int access_;  // O_RDONLY, O_WRONLY or O_RDWR
};

// The pages of a donated file: guests map the host file itself.
class P9Pages final : public mm::PageSource {
 public:
  explicit P9Pages(Identity identity) : identity_(std::move(identity)) {}
  void offer(const Ref<P9HostFile>& file) EXCLUDES(mutex_);
  void truncated(uint64_t size);
  void writer_closed() EXCLUDES(mutex_);
  bool in_use() { return mappings_.mapped(); }

  int host_fd(bool writable) override EXCLUDES(mutex_);
  Result<Range> page_in(Range, bool) override { return Errno::kNxIo; }
  uint64_t size() override EXCLUDES(mutex_);
  Result<void> add_mapping(mm::MappingObserver& observer, Range file_range,
                           bool shared_writable) override;
  void remove_mapping(mm::MappingObserver& observer, Range file_range,
                      bool shared_writable) override;
  Result<void> sync(Range file_range) override EXCLUDES(mutex_);
  Identity identity() override { return identity_; }

 private:
  Ref<P9HostFile> any() EXCLUDES(mutex_);
  const Identity identity_;
  mm::MappingList mappings_;
  Mutex mutex_{Rank::kP9};
  Ref<P9HostFile> readable_ GUARDED_BY(mutex_), writable_ GUARDED_BY(mutex_);
};

// An open regular file.
class P9File final : public vfs::FileDescription {
 public:
  P9File(const vfs::OpenRequest& request, Ref<P9Inode> inode, Ref<P9HostFile> file);
  ~P9File() override;

  Result<Ref<mm::PageSource>> map() override;
  Result<void> sync(bool data_only) override { return file_->sync(data_only); }

 protected:
  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override;
  Result<size_t> do_write(IoBuffers& from, uint64_t& offset,
                          const vfs::WriteOptions& options) override;
  Result<uint64_t> find_data(uint64_t offset, uint64_t size, bool hole) override;
  Result<void> do_allocate(int mode, uint64_t offset, uint64_t length) override;

 private:
  P9Inode& p9_inode() const;
  const Ref<P9HostFile> file_;
};

// An open directory: a snapshot of its entries, taken when reading starts at the beginning, so that
// a position is simply a count of entries.
class P9Directory final : public vfs::FileDescription {
 public:
  P9Directory(const vfs::OpenRequest& request, Ref<P9Inode> inode);
  ~P9Directory() override;
  Result<void> sync(bool) override { return {}; }

 protected:
  Result<void> do_iterate(uint64_t& position, vfs::DirectorySink& sink) override;

 private:
  Ref<P9Listing> listing_;  // under the offset lock
};

}  // namespace boxrun::fs
