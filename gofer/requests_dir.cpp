// Reading directories.
#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "gofer/requests.h"

namespace boxrun::gofer {
namespace {

// The records of one getdents64(2), one after the other.
struct HostEntry {
  uint64_t ino;
  uint64_t offset;
  uint8_t type;
  const char* name;  // NUL-terminated
};

class HostEntries {
 public:
  // From `offset` on. The call's own record is larger than any of ours is short, so nothing is read
  // in vain but the entries that do not fit the reply.
  Result<void> read(int directory, uint64_t offset) {
    if (offset > INT64_MAX) return Errno::kInval;
    if (lseek(directory, static_cast<off_t>(offset), SEEK_SET) < 0) return last_error();
    return more(directory);
  }
  Result<void> more(int directory) {
    const long got = syscall(SYS_getdents64, directory, buffer_.data(), buffer_.size());
    size_ = static_cast<size_t>(TRY(host_result(got)));
    at_ = 0;
    return {};
  }
  bool empty() const { return size_ == 0; }
  bool next(HostEntry& entry) {
    if (at_ >= size_) return false;
    // struct linux_dirent64: ino[8] off[8] reclen[2] type[1] name.
    const std::byte* record = buffer_.data() + at_;
    uint16_t length = 0;
    std::memcpy(&entry.ino, record, 8);
    std::memcpy(&entry.offset, record + 8, 8);
    std::memcpy(&length, record + 16, 2);
    std::memcpy(&entry.type, record + 18, 1);
    entry.name = reinterpret_cast<const char*>(record + 19);
    at_ += length;
    return true;
  }

 private:
  alignas(8) std::array<std::byte, 16384> buffer_;
  size_t size_ = 0;
  size_t at_ = 0;
};

QidType qid_type_of_entry(uint8_t type) {
  if (type == DT_DIR) return QidType::kDir;
  return type == DT_LNK ? QidType::kSymlink : QidType::kFile;
}

bool is_dots(std::string_view name) { return name == "." || name == ".."; }

enum class Progress : uint8_t { kMore, kEnd };

// Runs `emit` on each entry until it says that its entry did not fit. EINVAL when not even one
// does, as getdents64(2).
template <class Emit>
Result<Progress> for_each_entry(int directory, uint64_t offset, Emit emit) {
  HostEntries entries;
  TRY(entries.read(directory, offset));
  bool any = false;
  while (!entries.empty()) {
    HostEntry entry;
    while (entries.next(entry)) {
      if (!TRY(emit(entry))) {
        if (any) return Progress::kMore;
        return Errno::kInval;
      }
      any = true;
    }
    TRY(entries.more(directory));
  }
  return Progress::kEnd;
}

}  // namespace

Requests::Reply<Treaddir> Requests::handle(const Treaddir& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  Node& node = *fid->node;
  Encoder list(scratch_.first(data_room(m.count)));
  const Lock lock(fid->mutex);
  if (!fid->open) return Errno::kBadF;
  if (node.type() != S_IFDIR) return Errno::kNotDir;
  TRY(for_each_entry(fid->open.get(), m.offset, [&](const HostEntry& entry) -> Result<bool> {
    const std::string_view name = entry.name;
    // The host's parent of a mount's root is nobody's business.
    const bool own = name == "." || (name == ".." && node.is_root());
    if (!is_dots(name) && tree_.hidden(node, name)) return true;
    const FileId id{node.id().dev, own ? node.id().ino : entry.ino, {}};
    const DirEntry out{{qid_type_of_entry(entry.type), 0, tree_.qid_path(node.mount(), id)},
                       entry.offset,
                       entry.type,
                       name};
    const size_t before = list.size();
    DirEntry::fields(out, list);
    if (!list.ok()) list.rewind(before);
    return list.size() > before;
  }));
  return Rreaddir{Data(scratch_).first(list.size())};
}

// One entry, with its attributes if they are asked for. A hidden one is named, without them, so
// that a client that keeps whole directories can still tell a hidden name from a missing one.
// Entries that vanished meanwhile, and those on file systems that are never entered, have none: a
// lookup tells what is up with them.
Result<bool> Requests::put_entry_plus(Encoder& list, Node& node, int directory, bool attributes,
                                      DirEntryPlus out) {
  const std::string_view name = out.name;
  std::array<std::byte, kMaxPath + 1> target;
  Result<UniqueFd> file = Errno::kNoEnt;
  if (tree_.hidden(node, name)) {
    out.type = kHiddenEntry;
    out.path = 0;
  } else if (attributes) {
    file = own_fd(openat(directory, std::string(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  }
  if (file.error() == Errno::kMFile || file.error() == Errno::kNFile) return file.error();
  if (file.ok()) {
    const Result<HostStat> st = stat_fd(file->get());
    const bool same_device = st.ok() && st->id.dev == node.id().dev;
    if (st.ok() && (same_device || check_file_system(file->get()).ok())) {
      out.attr = st->attr;
      out.known = 1;
      out.path = out.attr.qid.path = tree_.qid_path(node.mount(), st->id);
      if (st->is(S_IFLNK)) out.target = TRY(read_link_into(file->get(), target));
    }
  }
  const size_t before = list.size();
  DirEntryPlus::fields(out, list);
  if (!list.ok()) list.rewind(before);
  return list.size() > before;
}

Requests::Reply<Treaddirplus> Requests::handle(const Treaddirplus& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  Node& node = *fid->node;
  Encoder list(scratch_.first(data_room(m.count)));
  const Lock lock(fid->mutex);
  if (!fid->open) return Errno::kBadF;
  if (node.type() != S_IFDIR) return Errno::kNotDir;
  const int directory = fid->open.get();
  const Progress progress =
      TRY(for_each_entry(directory, m.offset, [&](const HostEntry& entry) -> Result<bool> {
        if (is_dots(entry.name)) return true;
        const FileId id{node.id().dev, entry.ino, {}};
        return put_entry_plus(list, node, directory, m.attributes != 0,
                              {.offset = entry.offset,
                               .type = entry.type,
                               .path = tree_.qid_path(node.mount(), id),
                               .name = entry.name});
      }));
  return Rreaddirplus{progress == Progress::kEnd, Data(scratch_).first(list.size())};
}

}  // namespace boxrun::gofer
