// Directories, data, locks and extended attributes.
#include <fcntl.h>

#include <algorithm>

#include "gofer/client.h"
#include "gofer/client_exchange.h"

namespace boxrun::gofer {
namespace {

// Room for one data message's own fields in a packet.
constexpr uint32_t kDataOverhead = 64;

template <class Entry, class Emit>
Result<void> each_entry(Exchange& exchange, Data data, Emit emit) {
  Decoder decoder(data);
  while (decoder.remaining() > 0) {
    Entry entry;
    Entry::fields(entry, decoder);
    if (!decoder.ok()) return exchange.broken();
    if (entry.name == "." || entry.name == "..") continue;
    if (!valid_name(entry.name)) return exchange.broken();
    emit(entry);
  }
  return {};
}

}  // namespace

Result<DirectoryPage> Client::take_page(Exchange& exchange) {
  DirectoryPage page;
  if (dialect_ == Dialect::kPlain) {
    const Rreaddir reply = TRY(exchange.next<Rreaddir>());
    page.end = reply.data.empty();
    TRY(each_entry<DirEntry>(exchange, reply.data, [&](const DirEntry& e) {
      page.entries.push_back({std::string(e.name), e.offset, e.type, false, e.qid.path, {}, {}});
    }));
    return page;
  }
  const Rreaddirplus reply = TRY(exchange.next<Rreaddirplus>());
  page.end = reply.end != 0;
  TRY(each_entry<DirEntryPlus>(exchange, reply.data, [&](const DirEntryPlus& e) {
    page.entries.push_back({std::string(e.name),
                            e.offset,
                            e.type,
                            e.type == kHiddenEntry,
                            e.path,
                            {},
                            std::string(e.target)});
    if (e.known != 0) page.entries.back().attr = e.attr;
  }));
  return page;
}

Result<DirectoryPage> Client::read_directory(uint32_t fid, uint64_t offset, Listed what) {
  Exchange exchange(*this);
  if (dialect_ == Dialect::kPlain) {
    exchange.add(Treaddir{fid, offset, msize_ - kDataOverhead});
  } else {
    exchange.add(Treaddirplus{fid, offset, msize_, what == Listed::kAttributes});
  }
  TRY(exchange.run());
  return take_page(exchange);
}

Result<Client::OpenedDirectory> Client::list(uint32_t directory, Listed what,
                                             ServerError* failure) {
  if (dialect_ == Dialect::kPlain) {
    RemoteOpen opened = TRY(open(directory, O_RDONLY | O_DIRECTORY, failure));
    DirectoryPage page = TRY(read_directory(opened.fid.number(), 0, what));
    return OpenedDirectory{std::move(opened.fid), std::move(page)};
  }
  const uint32_t fid = new_fid();
  Exchange exchange(*this);
  exchange.add(Topen{directory, fid, O_RDONLY | O_DIRECTORY});
  exchange.add(Treaddirplus{fid, 0, msize_, what == Listed::kAttributes});
  TRY(exchange.run());
  RemoteOpen opened;
  TRY(take_open(exchange, fid, opened));
  Result<DirectoryPage> page = take_page(exchange);
  exchange.report(failure);
  if (!page.ok()) return exchange.failure().error;
  return OpenedDirectory{std::move(opened.fid), std::move(page).take()};
}

Result<size_t> Client::read(uint32_t fid, uint64_t offset, IoBuffers& into) {
  Exchange exchange(*this);
  const size_t count = std::min<size_t>(into.remaining(), msize_ - kDataOverhead);
  exchange.add(Tread{fid, offset, static_cast<uint32_t>(count)});
  TRY(exchange.run());
  const Rread reply = TRY(exchange.next<Rread>());
  if (reply.data.size() > count) return exchange.broken();
  return into.put(reply.data);
}

Result<size_t> Client::write(uint32_t fid, uint64_t offset, IoBuffers& from) {
  Exchange exchange(*this);
  std::vector<std::byte> data(std::min<size_t>(from.remaining(), msize_ - kDataOverhead - 1024));
  IoBuffers ahead = from;  // moves on only by what the server took
  data.resize(TRY(ahead.take(data)));
  exchange.add(Twrite{fid, offset, data});
  TRY(exchange.run());
  const Rwrite reply = TRY(exchange.next<Rwrite>());
  if (reply.count > data.size()) return exchange.broken();
  from.skip(reply.count);
  return size_t{reply.count};
}

Result<void> Client::fsync(uint32_t fid, bool data_only) {
  Exchange exchange(*this);
  exchange.add(Tfsync{fid, data_only ? 1U : 0U});
  TRY(exchange.run());
  TRY(exchange.next<Tfsync::Reply>());
  return {};
}

Result<Rstatfs> Client::statfs(uint32_t fid) {
  Exchange exchange(*this);
  exchange.add(Tstatfs{fid});
  TRY(exchange.run());
  return exchange.next<Rstatfs>();
}

Result<LockStatus> Client::lock(uint32_t fid, LockType type, uint64_t start, uint64_t length) {
  Exchange exchange(*this);
  exchange.add(Tlock{fid, type, 0, start, length, 0, "boxrun"});
  TRY(exchange.run());
  return TRY(exchange.next<Rlock>()).status;
}

Result<std::vector<std::byte>> Client::get_xattr(uint32_t fid, std::string_view name) {
  const uint32_t number = new_fid();
  RemoteFid reader;
  std::vector<std::byte> value;
  uint64_t size = 0;
  {
    Exchange exchange(*this);
    exchange.add(Txattrwalk{fid, number, name});
    exchange.add(Tread{number, 0, msize_ - kDataOverhead});
    TRY(exchange.run());
    const Result<Rxattrwalk> opened = exchange.next<Rxattrwalk>();
    if (!opened.ok()) {
      unused(number);
      return opened.error();
    }
    reader = RemoteFid(*this, number);
    size = opened->size;
    const Rread first = TRY(exchange.next<Rread>());
    if (size > kMaxMessage || first.data.size() > size) return exchange.broken();
    value.assign(first.data.begin(), first.data.end());
  }
  // Values of almost 64 KiB do not fit one packet.
  while (value.size() < size) {
    Exchange exchange(*this);
    exchange.add(Tread{number, value.size(), static_cast<uint32_t>(size - value.size())});
    TRY(exchange.run());
    const Rread more = TRY(exchange.next<Rread>());
    if (more.data.empty() || more.data.size() > size - value.size()) return exchange.broken();
    value.insert(value.end(), more.data.begin(), more.data.end());
  }
  return value;
}

// The value is set when its fid is clunked, so the clunk is part of the chain here.
Result<void> Client::write_xattr(const Txattrcreate& request, uint32_t fid, Data value,
                                 ServerError* failure) {
  Exchange exchange(*this);
  exchange.add(Twalk{fid, request.fid, {}});
  exchange.add(request);
  if (!value.empty()) exchange.add(Twrite{request.fid, 0, value});
  exchange.add(Tclunk{request.fid});
  TRY(exchange.run());
  if (!exchange.next<Rwalk>().ok()) {
    unused(request.fid);
  } else {
    RemoteFid writer(*this, request.fid);
    (void)exchange.next<Txattrcreate::Reply>();
    if (!value.empty()) (void)exchange.next<Rwrite>();
    // Tclunk forgets the fid even when setting the value fails.
    const bool clunked = exchange.failure().error == Errno::kOk;
    (void)exchange.next<Tclunk::Reply>();
    if (clunked) {
      unused(request.fid);
      writer.forget();
    }
  }
  exchange.report(failure);
  if (exchange.failure().error != Errno::kOk) return exchange.failure().error;
  return {};
}

Result<void> Client::set_xattr(uint32_t fid, std::string_view name, Data value, uint32_t flags,
                               ServerError* failure) {
  // What ext4 says of a value that is too long for it; ours must fit a packet.
  if (value.size() + name.size() + 256 > msize_) return Errno::kNoSpc;
  return write_xattr({new_fid(), name, value.size(), flags}, fid, value, failure);
}

Result<void> Client::remove_xattr(uint32_t fid, std::string_view name, ServerError* failure) {
  const uint32_t flags = dialect_ == Dialect::kBoxrun ? kXattrRemove : 0;
  return write_xattr({new_fid(), name, 0, flags}, fid, {}, failure);
}

}  // namespace boxrun::gofer
