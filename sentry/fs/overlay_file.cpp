// Open files of overlays: reads go to the lower file until there is a copy.
#include <fcntl.h>
#include <linux/falloc.h>

#include <array>
#include <memory>
#include <utility>

#include "sentry/fs/overlay_fs.h"

namespace boxrun::fs {
namespace {

class OverlayFile final : public vfs::FileDescription {
 public:
  OverlayFile(const vfs::OpenRequest& request, const Ref<OverlayInode>& inode,
              Ref<vfs::FileDescription> lower)
      : FileDescription(request, inode, Positioning::kSeekable),
        overlay_(*inode),
        lower_(std::move(lower)) {}

  // A writable descriptor may be mapped shared and written through, which nobody would see.
  Result<Ref<mm::PageSource>> map() override {
    if (writable()) return Ref<mm::PageSource>(TRY(overlay_.data_for_write(UINT64_MAX)));
    if (Ref<FileData> data = overlay_.copied_data()) return Ref<mm::PageSource>(std::move(data));
    return lower_->map();
  }

 private:
  Result<size_t> do_read(IoBuffers& to, uint64_t offset) override {
    if (const Ref<FileData> data = overlay_.copied_data()) return data->read(to, offset);
    return lower_->pread(to, static_cast<int64_t>(offset));
  }

  Result<size_t> do_write(IoBuffers& from, uint64_t& offset,
                          const vfs::WriteOptions& options) override {
    const Ref<FileData> data = TRY(overlay_.data_for_write(UINT64_MAX));
    FileData::Write where{offset, options.append, options.size_limit};
    const size_t done = TRY(data->write(from, where));
    offset = where.offset;
    if (done > 0) TRY(overlay_.written(*opener()));
    return done;
  }

  Result<uint64_t> find_data(uint64_t offset, uint64_t size, bool hole) override {
    if (const Ref<FileData> data = overlay_.copied_data()) return data->find(offset, hole);
    return lower_ ? lower_->find(offset, hole) : FileDescription::find_data(offset, size, hole);
  }

  Result<void> do_allocate(int mode, uint64_t offset, uint64_t length) override {
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) != 0) return Errno::kOpNotSupp;
    const Ref<FileData> data = TRY(overlay_.data_for_write(UINT64_MAX));
    const Range bytes{offset, offset + length};
    TRY((mode & FALLOC_FL_PUNCH_HOLE) != 0
            ? data->punch_hole(bytes)
            : data->reserve(bytes, (mode & FALLOC_FL_KEEP_SIZE) != 0));
    return overlay_.written(*opener());
  }

  // The data is in memory; there is nothing to write back.
  Result<void> sync(bool) override { return {}; }

  OverlayInode& overlay_;
  const Ref<vfs::FileDescription> lower_;  // null for files that only exist here
};

// An open directory shows the names that were there when it was opened, or rewound. Iteration is
// serialised by the position's lock.
class OverlayDirectory final : public vfs::FileDescription {
 public:
  OverlayDirectory(const vfs::OpenRequest& request, const Ref<OverlayInode>& inode)
      : FileDescription(request, inode, Positioning::kSeekable), overlay_(*inode) {}

  Result<void> sync(bool) override { return {}; }

 private:
  Result<void> do_iterate(uint64_t& position, vfs::DirectorySink& sink) override {
    if (position == 0 || !listed_) {
      names_ = TRY(overlay_.list());
      listed_ = true;
    }
    const Ref<vfs::Dentry> parent = path().dentry->parent();
    const Ref<vfs::Inode> above = parent ? parent->inode() : inode_ref();
    while (position < names_.size() + 2) {
      vfs::DirectorySink::Entry entry{};
      if (position == 0) {
        entry = {".", TRY(overlay_.attributes()).ino, vfs::FileType::kDirectory, 1};
      } else if (position == 1) {
        entry = {"..", TRY(above->attributes()).ino, vfs::FileType::kDirectory, 2};
      } else {
        const OverlayInode::Listed& listed = names_[position - 2];
        entry = {listed.name, listed.ino, listed.type, position + 1};
      }
      if (!sink.add(entry)) return {};
      position++;
    }
    return {};
  }

  OverlayInode& overlay_;
  std::vector<OverlayInode::Listed> names_;
  bool listed_ = false;
};

}  // namespace

Result<Ref<vfs::FileDescription>> OverlayInode::open(const vfs::OpenRequest& request) {
  const Ref<OverlayInode> self(this);
  if (is_directory()) {
    return Ref<vfs::FileDescription>(make_ref<OverlayDirectory>(request, self));
  }
  if (type() != vfs::FileType::kRegular) return Errno::kNxIo;
  Ref<vfs::FileDescription> below;
  if (lower_ && !copied_data()) {
    vfs::OpenRequest read_only = request;
    read_only.flags = O_RDONLY;
    below = TRY(lower_->open(read_only));
  }
  return Ref<vfs::FileDescription>(make_ref<OverlayFile>(request, self, std::move(below)));
}

Result<void> OverlayInode::copy_data(FileData& to, uint64_t bytes) {
  constexpr size_t kChunk = size_t{128} * 1024;
  vfs::OpenRequest request;
  request.flags = O_RDONLY;
  const auto from = TRY(lower_->open(request));
  const auto buffer = std::make_unique<std::array<std::byte, kChunk>>();
  for (uint64_t at = 0; at < bytes;) {
    // Holes stay holes: a sparse file may be larger than all memory.
    Result<uint64_t> data_at = from->find(at, false);
    if (data_at.error() == Errno::kNxIo) break;
    at = TRY(std::move(data_at));
    if (at >= bytes) break;
    IoBuffers chunk{std::span<std::byte>(buffer->data(), std::min<uint64_t>(kChunk, bytes - at))};
    const size_t got = TRY(from->pread(chunk, static_cast<int64_t>(at)));
    if (got == 0) break;
    IoBuffers data(std::as_bytes(std::span(*buffer)).first(got));
    while (!data.empty()) {
      FileData::Write where{at};
      at += TRY(to.write(data, where));
    }
  }
  return to.resize(bytes);
}

Result<Ref<FileData>> OverlayInode::data_for_write(uint64_t keep) {
  if (Ref<FileData> data = copied_data()) return data;
  const Ref<TmpInode> upper = TRY(upper_for_write());
  Lock copying(copy_mutex_);
  if (Ref<FileData> data = copied_data()) return data;
  const uint64_t size = TRY(lower_attributes()).size;
  if (const auto copied = copy_data(*upper->data(), std::min(keep, size)); !copied.ok()) {
    (void)upper->data()->resize(0);  // the next attempt starts over
    return copied.error();
  }
  Lock lock(fs_.mutex_);
  data_copied_ = true;
  return upper->data();
}

}  // namespace boxrun::fs
