#include "gofer/session.h"

#include <algorithm>

namespace boxrun::gofer {

Fid::~Fid() {
  const Lock lock(mutex);
  if (open_count != nullptr) open_count->fetch_sub(1, std::memory_order_relaxed);
}

Result<Limits> Limits::for_descriptors(uint64_t limit) {
  // Channels, roots, /proc/self/fd, and what single requests have open for a moment.
  constexpr uint64_t kReserved = 48;
  if (limit < 64) return Errno::kMFile;
  const uint64_t usable = std::min<uint64_t>(limit, 65536) - kReserved;
  return Limits{.held = usable * 2 / 3, .open = usable / 3, .fids = 1 << 18};
}

Session::Session(std::unique_ptr<Tree> tree, Limits limits, Owners owners,
                 std::unique_ptr<Watches> watches)
    : tree_(std::move(tree)), watches_(std::move(watches)), limits_(limits), owners_(owners) {}

void Session::before_requests() {
  if (watches_) watches_->enter(tree_->proc());
}

Result<Ref<Fid>> Session::find(uint32_t number) {
  const Lock lock(mutex_);
  const auto found = fids_.find(number);
  if (found == fids_.end()) return Errno::kBadF;
  return Ref<Fid>(found->second);
}

Result<void> Session::add(uint32_t number, Ref<Fid> fid) {
  const Lock lock(mutex_);
  if (number == kNoFid || fids_.contains(number)) return Errno::kBadF;
  if (fids_.size() >= limits_.fids) return Errno::kNFile;
  fids_.emplace(number, std::move(fid));
  return {};
}

Result<void> Session::add_or_replace(uint32_t number, uint32_t replaced, Ref<Fid> fid) {
  if (number != replaced) return add(number, std::move(fid));
  Ref<Fid> old;  // dropped after the lock
  const Lock lock(mutex_);
  const auto found = fids_.find(number);
  if (found == fids_.end()) return Errno::kBadF;
  old = std::exchange(found->second, std::move(fid));
  return {};
}

Result<Ref<Fid>> Session::remove(uint32_t number) {
  const Lock lock(mutex_);
  const auto found = fids_.find(number);
  if (found == fids_.end()) return Errno::kBadF;
  Ref<Fid> fid = std::move(found->second);
  fids_.erase(found);
  return fid;
}

void Session::reset(Dialect dialect, uint32_t msize) {
  std::unordered_map<uint32_t, Ref<Fid>> dropped;  // after the lock
  const Lock lock(mutex_);
  dropped.swap(fids_);
  dialect_ = dialect;
  msize_ = msize;
}

Result<void> Session::count_open(Fid& fid) {
  if (fid.open || fid.xattr) return Errno::kBadF;
  if (open_count_.fetch_add(1, std::memory_order_relaxed) >= limits_.open) {
    open_count_.fetch_sub(1, std::memory_order_relaxed);
    return Errno::kMFile;
  }
  fid.open_count = &open_count_;
  return {};
}

Result<void> Session::set_open(Fid& fid, UniqueFd file) {
  const Lock lock(fid.mutex);
  TRY(count_open(fid));
  fid.open = std::move(file);
  return {};
}

Result<void> Session::set_xattr(Fid& fid, XattrState xattr) {
  const Lock lock(fid.mutex);
  TRY(count_open(fid));
  fid.xattr = std::move(xattr);
  return {};
}

void Session::shut_down_all() {
  const Lock lock(mutex_);
  for (Channel* channel : channels_) channel->shut_down();
}

}  // namespace boxrun::gofer
