// Finding files and looking at them.
#include <sys/vfs.h>
#include <unistd.h>

#include "gofer/requests.h"

namespace boxrun::gofer {

Requests::Reply<Tattach> Requests::handle(const Tattach& m) {
  if (m.afid != kNoFid) return Errno::kOpNotSupp;
  Ref<Node> root = TRY(tree_.root(m.aname, denial_));
  const HostStat st = TRY(tree_.stat(*root));
  const uint32_t owner = m.n_uname == kNoUid ? geteuid() : m.n_uname;
  TRY(session_.add(m.fid, make_ref<Fid>(root, owner)));
  return Rattach{st.attr.qid};
}

Requests::Reply<Twalk> Requests::handle(const Twalk& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  Ref<Node> at = fid->node;
  Rwalk reply;
  for (std::string_view name : m.names.view()) {
    Result<Ref<Node>> next = tree_.step(*at, name, denial_, &walked_.stat);
    if (!next.ok()) {
      // walk(5): an error only if the first name fails. Then newfid stays unused, which in a batch
      // would let the next request go astray: there a walk succeeds as a whole.
      if (reply.qids.count == 0 || session_.dialect_ == Dialect::kBoxrun) return next.error();
      return reply;
    }
    at = std::move(next).take();
    if (session_.dialect_ == Dialect::kBoxrun) {
      // Tstat follows in the same packet; only the identity is of interest here.
      reply.qids.qid[reply.qids.count++] = {at->qid_type(), 0, tree_.qid_path(*at)};
    } else {
      reply.qids.qid[reply.qids.count++] = TRY(tree_.stat(*at)).attr.qid;
    }
  }
  TRY(session_.add_or_replace(m.newfid, m.fid, make_ref<Fid>(at, fid->owner)));
  if (!m.names.view().empty()) walked_.node = std::move(at);
  return reply;
}

Requests::Reply<Tclunk> Requests::handle(const Tclunk& m) {
  const Ref<Fid> fid = TRY(session_.remove(m.fid));
  TRY(finish_xattr(*fid));
  return Tclunk::Reply{};
}

Requests::Reply<Tgetattr> Requests::handle(const Tgetattr& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  return Rgetattr{TRY(tree_.stat(*fid->node)).attr};
}

Requests::Reply<Tstat> Requests::handle(const Tstat& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  HostStat st = walked_.node == fid->node ? walked_.stat : TRY(tree_.stat(*fid->node));
  st.attr.qid.path = tree_.qid_path(*fid->node);
  if (!st.is(S_IFLNK)) return Rstat{st.attr, {}};
  const Pin pin = TRY(tree_.pin(*fid->node));
  return Rstat{st.attr, TRY(read_link_into(pin.fd(), scratch_))};
}

Requests::Reply<Treadlink> Requests::handle(const Treadlink& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  if (fid->node->type() != S_IFLNK) return Errno::kInval;
  const Pin pin = TRY(tree_.pin(*fid->node));
  return Rreadlink{TRY(read_link_into(pin.fd(), scratch_))};
}

Requests::Reply<Tstatfs> Requests::handle(const Tstatfs& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const Pin pin = TRY(tree_.pin(*fid->node));
  struct statfs st;
  if (fstatfs(pin.fd(), &st) < 0) return last_error();
  const uint64_t fsid = static_cast<uint32_t>(st.f_fsid.__val[0]) |
                        static_cast<uint64_t>(static_cast<uint32_t>(st.f_fsid.__val[1])) << 32;
  return Rstatfs{.type = static_cast<uint32_t>(st.f_type),
                 .bsize = static_cast<uint32_t>(st.f_bsize),
                 .blocks = st.f_blocks,
                 .bfree = st.f_bfree,
                 .bavail = st.f_bavail,
                 .files = st.f_files,
                 .ffree = st.f_ffree,
                 .fsid = fsid,
                 .namelen = static_cast<uint32_t>(st.f_namelen)};
}

}  // namespace boxrun::gofer
