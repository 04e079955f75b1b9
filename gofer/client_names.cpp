// Walking, making, moving and removing names.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "gofer/client.h"
#include "gofer/client_exchange.h"

namespace boxrun::gofer {
namespace {

// Bytes of a directory's entries that still leave room for the attributes of a walk.
constexpr uint32_t kListingRoom = 57344;

// Names of one packet: each costs two requests, and the reply must hold attributes for all.
constexpr size_t kNamesPerWalk = 48;

Twalk walk_one(uint32_t from, uint32_t to, std::string_view name) {
  Twalk walk{from, to, {}};
  walk.names.name[0] = name;
  walk.names.count = 1;
  return walk;
}

void add_stat(Exchange& exchange, Dialect dialect, uint32_t fid) {
  if (dialect == Dialect::kBoxrun) {
    exchange.add(Tstat{fid});
  } else {
    exchange.add(Tgetattr{fid, kAttrBasic});
  }
}

// The attributes that add_stat asked for. The text of a link is missing in the plain dialect.
Result<void> take_stat(Exchange& exchange, Dialect dialect, RemoteFile& file) {
  if (dialect == Dialect::kBoxrun) {
    const Rstat reply = TRY(exchange.next<Rstat>());
    file.attr = reply.attr;
    file.target = reply.target;
  } else {
    file.attr = TRY(exchange.next<Rgetattr>()).attr;
  }
  return {};
}

void add_open(Exchange& exchange, Dialect dialect, uint32_t from, uint32_t newfid, uint32_t flags) {
  if (dialect == Dialect::kBoxrun) {
    exchange.add(Topen{from, newfid, flags});
  } else {
    exchange.add(Twalk{from, newfid, {}});
    exchange.add(Tlopen{newfid, flags});
  }
}

bool is_link(const Attr& attr) { return (attr.mode & S_IFMT) == S_IFLNK; }

}  // namespace

Result<RemoteFile> Client::attach(std::string_view mount, uint32_t uid, ServerError* failure) {
  const uint32_t fid = new_fid();
  Exchange exchange(*this);
  exchange.add(Tattach{fid, kNoFid, "", mount, uid});
  add_stat(exchange, dialect_, fid);
  TRY(exchange.run());
  const Result<Rattach> attached = exchange.next<Rattach>();
  if (!attached.ok()) {
    unused(fid);
    exchange.report(failure);
    return attached.error();
  }
  RemoteFile root{RemoteFid(*this, fid), {}, {}};
  TRY(take_stat(exchange, dialect_, root));
  return root;
}

Result<UniqueFd> Client::bell() {
  if (dialect_ != Dialect::kBoxrun) return Errno::kOpNotSupp;
  Exchange exchange(*this);
  exchange.add(Tbell{});
  TRY(exchange.run());
  TRY(exchange.next<Tbell::Reply>());
  return exchange.take_descriptor();
}

Result<WalkReply> Client::walk(uint32_t from, std::span<const std::string_view> names,
                               const WalkExtras& extras) {
  WalkReply all;
  WalkExtras now = extras;
  do {
    const auto some = names.first(std::min(names.size(), kNamesPerWalk));
    names = names.subspan(some.size());
    now.open_flags = names.empty() ? extras.open_flags : std::nullopt;
    WalkReply part = TRY(walk_some(from, some, now));
    for (RemoteFile& step : part.steps) all.steps.push_back(std::move(step));
    all.failure = part.failure;
    all.opened = std::move(part.opened);
    if (part.start) all.start = part.start;
    if (part.listing) all.listing = std::move(part.listing);
    all.watched |= part.watched;
    if (all.failure.error != Errno::kOk) break;
    if (!all.steps.empty()) from = all.steps.back().fid.number();
    now = {};  // the extras concern the beginning
  } while (!names.empty());
  // A boxrun peer sends the text of a link along; from a plain one it is fetched now.
  if (dialect_ == Dialect::kPlain) {
    for (RemoteFile& step : all.steps) {
      if (is_link(step.attr)) step.target = TRY(readlink(step.fid.number()));
    }
  }
  return all;
}

// The requests of one walk, and the same once more to take their replies.
class Client::WalkChain {
 public:
  WalkChain(Client& client, uint32_t from, std::span<const std::string_view> names,
            const WalkExtras& extras)
      : client_(client), names_(names), extras_(extras), exchange_(client) {
    if (client.dialect() == Dialect::kPlain) {
      extras_ = {.open_flags = extras.open_flags, .stat_start = extras.stat_start};
    }
    numbers_.push_back(from);
    for (size_t i = 0; i < names.size(); i++) numbers_.push_back(client.new_fid());
    if (extras_.list_after) list_fid_ = client.new_fid();
    if (extras_.open_flags) open_fid_ = client.new_fid();
  }

  Result<WalkReply> run() {
    if (extras_.collect) exchange_.add(Tcollect{});
    if (extras_.watch_start) exchange_.add(Twatch{numbers_.front()});
    for (size_t i = 0; i < numbers_.size(); i++) add_step(i);
    if (extras_.open_flags) {
      add_open(exchange_, client_.dialect(), numbers_.back(), open_fid_, *extras_.open_flags);
    }
    TRY(exchange_.run());
    WalkReply reply;
    if (extras_.collect) TRY(exchange_.next<Tcollect::Reply>());
    if (extras_.watch_start) reply.watched = TRY(exchange_.next<Rwatch>()).watched != 0;
    for (size_t i = 0; i < numbers_.size(); i++) TRY(take_step(i, reply));
    if (extras_.open_flags) TRY(client_.take_open(exchange_, open_fid_, reply.opened));
    if (client_.dead()) return Errno::kIo;
    reply.failure = exchange_.failure();
    return reply;
  }

 private:
  void add_step(size_t i) {
    const Dialect dialect = client_.dialect();
    if (i > 0) exchange_.add(walk_one(numbers_[i - 1], numbers_[i], names_[i - 1]));
    if (i > 0 || extras_.stat_start) add_stat(exchange_, dialect, numbers_[i]);
    if (extras_.list_after != i) return;
    exchange_.add(Topen{numbers_[i], list_fid_, O_RDONLY | O_DIRECTORY});
    exchange_.add(Treaddirplus{list_fid_, 0, kListingRoom, extras_.listed == Listed::kAttributes});
  }

  Result<void> take_step(size_t i, WalkReply& reply) {
    if (i > 0) {
      const Result<Rwalk> walked = exchange_.next<Rwalk>();
      if (walked.ok() && walked->qids.count != 1) return exchange_.broken();
      if (!walked.ok()) client_.unused(numbers_[i]);
      RemoteFile step;
      if (walked.ok()) step.fid = RemoteFid(client_, numbers_[i]);
      if (take_stat(exchange_, client_.dialect(), step).ok()) {
        reply.steps.push_back(std::move(step));
      }
    } else if (extras_.stat_start) {
      RemoteFile start;
      if (take_stat(exchange_, client_.dialect(), start).ok()) reply.start = start.attr;
    }
    if (extras_.list_after != i) return {};
    RemoteOpen listed;
    TRY(client_.take_open(exchange_, list_fid_, listed));
    Result<DirectoryPage> page = client_.take_page(exchange_);
    if (page.ok()) reply.listing = std::move(page).take();
    return {};
  }

  Client& client_;
  const std::span<const std::string_view> names_;
  WalkExtras extras_;
  std::vector<uint32_t> numbers_;  // of where it starts, and then of each name
  uint32_t list_fid_ = kNoFid, open_fid_ = kNoFid;
  Exchange exchange_;
};

Result<WalkReply> Client::walk_some(uint32_t from, std::span<const std::string_view> names,
                                    const WalkExtras& extras) {
  for (const std::string_view name : names) {
    if (!valid_name(name)) return name.size() > kMaxName ? Errno::kNameTooLong : Errno::kInval;
  }
  return WalkChain(*this, from, names, extras).run();
}

// Takes the replies to add_open. Errors of the server stay in the exchange.
Result<void> Client::take_open(Exchange& exchange, uint32_t fid, RemoteOpen& opened) {
  if (dialect_ == Dialect::kBoxrun) {
    const Result<Ropen> reply = exchange.next<Ropen>();
    const bool donated = reply.ok() && reply->donated != 0;
    if (!reply.ok() || donated) unused(fid);
    if (!reply.ok()) return {};
    if (donated) {
      opened.file = TRY(exchange.take_file());
    } else {
      opened.fid = RemoteFid(*this, fid);
    }
    return {};
  }
  if (!exchange.next<Rwalk>().ok()) {
    unused(fid);
    return {};
  }
  RemoteFid clone(*this, fid);
  if (exchange.next<Rlopen>().ok()) opened.fid = std::move(clone);
  return {};
}

Result<RemoteFile> Client::stat(uint32_t fid) {
  Exchange exchange(*this);
  add_stat(exchange, dialect_, fid);
  TRY(exchange.run());
  RemoteFile file;
  TRY(take_stat(exchange, dialect_, file));
  return file;
}

Result<RemoteOpen> Client::open(uint32_t fid, uint32_t flags, ServerError* failure) {
  const uint32_t open_fid = new_fid();
  Exchange exchange(*this);
  add_open(exchange, dialect_, fid, open_fid, flags);
  TRY(exchange.run());
  RemoteOpen opened;
  TRY(take_open(exchange, open_fid, opened));
  exchange.report(failure);
  if (exchange.failure().error != Errno::kOk) return exchange.failure().error;
  return opened;
}

Result<Client::Created> Client::create(uint32_t directory, std::string_view name, uint32_t flags,
                                       uint32_t mode, Owner owner, ServerError* failure) {
  const Tcreate request{directory, new_fid(), name, flags, mode, owner.gid};
  if (dialect_ == Dialect::kPlain) return create_plain(request, failure);
  Exchange exchange(*this);
  exchange.add(Tas{owner.uid});
  exchange.add(request);
  TRY(exchange.run());
  TRY(exchange.next<Tas::Reply>());
  const Result<Rcreate> reply = exchange.next<Rcreate>();
  if (!reply.ok()) {
    unused(request.newfid);
    exchange.report(failure);
    return reply.error();
  }
  Created created;
  created.found.fid = RemoteFid(*this, request.newfid);
  created.found.attr = reply->attr;
  Result<UniqueFd> file = exchange.take_file();
  // What was made is there nevertheless.
  if (file.error() == Errno::kNFile) return created;
  created.opened.file = TRY(std::move(file));
  return created;
}

// Tlcreate turns the directory's fid into the open file's, so it gets a clone of one.
Result<Client::Created> Client::create_plain(const Tcreate& request, ServerError* failure) {
  Exchange exchange(*this);
  const uint32_t found = new_fid();
  exchange.add(Twalk{request.dfid, request.newfid, {}});
  exchange.add(Tlcreate{request.newfid, request.name, request.flags, request.mode, request.gid});
  exchange.add(walk_one(request.dfid, found, request.name));
  add_stat(exchange, dialect_, found);
  TRY(exchange.run());
  Created created;
  if (exchange.next<Rwalk>().ok()) created.opened.fid = RemoteFid(*this, request.newfid);
  (void)exchange.next<Rlcreate>();
  if (exchange.next<Rwalk>().ok()) created.found.fid = RemoteFid(*this, found);
  (void)take_stat(exchange, dialect_, created.found);
  exchange.report(failure);
  if (exchange.failure().error != Errno::kOk) return exchange.failure().error;
  return created;
}

// Tmkdir and its like, and then a look at what they made.
template <class Request>
Result<RemoteFile> Client::make(const Request& request, Owner owner, ServerError* failure) {
  const uint32_t fid = new_fid();
  Exchange exchange(*this);
  if (dialect_ == Dialect::kBoxrun) exchange.add(Tas{owner.uid});
  exchange.add(request);
  exchange.add(walk_one(request.dfid, fid, request.name));
  add_stat(exchange, dialect_, fid);
  TRY(exchange.run());
  if (dialect_ == Dialect::kBoxrun) TRY(exchange.next<Tas::Reply>());
  (void)exchange.next<typename Request::Reply>();
  RemoteFile made;
  if (exchange.next<Rwalk>().ok()) {
    made.fid = RemoteFid(*this, fid);
  } else {
    unused(fid);
  }
  (void)take_stat(exchange, dialect_, made);
  exchange.report(failure);
  if (exchange.failure().error != Errno::kOk) return exchange.failure().error;
  return made;
}

Result<RemoteFile> Client::mkdir(uint32_t directory, std::string_view name, uint32_t mode,
                                 Owner owner, ServerError* failure) {
  return make(Tmkdir{directory, name, mode, owner.gid}, owner, failure);
}

Result<RemoteFile> Client::mknod(uint32_t directory, std::string_view name, uint32_t mode,
                                 uint64_t rdev, Owner owner, ServerError* failure) {
  return make(Tmknod{directory, name, mode, major(rdev), minor(rdev), owner.gid}, owner, failure);
}

Result<RemoteFile> Client::symlink(uint32_t directory, std::string_view name,
                                   std::string_view target, Owner owner, ServerError* failure) {
  Result<RemoteFile> made = make(Tsymlink{directory, name, target, owner.gid}, owner, failure);
  if (made.ok()) made->target = target;
  return made;
}

// One request whose reply has no fields.
template <class Request>
Result<void> Client::change(const Request& request, ServerError* failure) {
  Exchange exchange(*this);
  exchange.add(request);
  TRY(exchange.run());
  const auto reply = exchange.next<typename Request::Reply>();
  exchange.report(failure);
  if (!reply.ok()) return reply.error();
  return {};
}

Result<void> Client::link(uint32_t directory, uint32_t file, std::string_view name,
                          ServerError* failure) {
  return change(Tlink{directory, file, name}, failure);
}

Result<void> Client::unlink(uint32_t directory, std::string_view name, uint32_t flags,
                            ServerError* failure) {
  return change(Tunlinkat{directory, name, flags}, failure);
}

Result<void> Client::rename(uint32_t old_dir, std::string_view old_name, uint32_t new_dir,
                            std::string_view new_name, uint32_t flags, ServerError* failure) {
  if (flags == 0) return change(Trenameat{old_dir, old_name, new_dir, new_name}, failure);
  if (dialect_ == Dialect::kPlain) return Errno::kInval;
  return change(Trenameat2{old_dir, old_name, new_dir, new_name, flags}, failure);
}

Result<Attr> Client::set_attr(uint32_t fid, const NewAttr& attr, ServerError* failure) {
  Exchange exchange(*this);
  exchange.add(
      Tsetattr{fid, attr.valid, attr.mode, attr.uid, attr.gid, attr.size, attr.atime, attr.mtime});
  add_stat(exchange, dialect_, fid);
  TRY(exchange.run());
  const auto reply = exchange.next<Tsetattr::Reply>();
  exchange.report(failure);
  if (!reply.ok()) return reply.error();
  RemoteFile file;
  TRY(take_stat(exchange, dialect_, file));
  return file.attr;
}

Result<std::string> Client::readlink(uint32_t fid) {
  Exchange exchange(*this);
  exchange.add(Treadlink{fid});
  TRY(exchange.run());
  return std::string(TRY(exchange.next<Rreadlink>()).target);
}

}  // namespace boxrun::gofer
