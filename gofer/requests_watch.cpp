// Telling the client of changes by others.
#include "gofer/requests.h"
#include "gofer/watches.h"

namespace boxrun::gofer {

Requests::Reply<Tbell> Requests::handle(const Tbell&) {
  if (session_.watches_ == nullptr || !donate_) return Errno::kOpNotSupp;
  if (fds_.full()) return Errno::kNoBufs;
  fds_.push(TRY(session_.watches_->bell()));
  return Tbell::Reply{};
}

// Never an error for what cannot be watched: in a batch it would end the walk behind it.
Requests::Reply<Twatch> Requests::handle(const Twatch& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  if (session_.watches_ == nullptr || fid->node->type() != S_IFDIR) return Rwatch{0};
  const Result<Pin> pin = tree_.pin(*fid->node);
  return Rwatch{pin.ok() && session_.watches_->add(pin->fd()) ? uint8_t{1} : uint8_t{0}};
}

Requests::Reply<Tcollect> Requests::handle(const Tcollect&) {
  if (session_.watches_ != nullptr) session_.watches_->collect(scratch_);
  return Tcollect::Reply{};
}

}  // namespace boxrun::gofer
