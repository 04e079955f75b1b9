// Extended attributes, which 9P2000.L reads and writes like files.
#include <linux/limits.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "gofer/requests.h"

namespace boxrun::gofer {
namespace {

// Only the names that may cross the border, each with its NUL.
void keep_allowed(std::vector<std::byte>& list) {
  std::vector<std::byte> kept;
  const char* at = reinterpret_cast<const char*>(list.data());
  const char* end = at + list.size();
  while (at < end) {
    const size_t size = strnlen(at, static_cast<size_t>(end - at));
    const size_t with_nul = std::min(size + 1, static_cast<size_t>(end - at));
    if (xattr_allowed({at, size})) {
      const Data name = std::as_bytes(std::span(at, with_nul));
      kept.insert(kept.end(), name.begin(), name.end());
    }
    at += with_nul;
  }
  list = std::move(kept);
}

Result<std::string> checked_name(std::string_view name) {
  if (name.size() > XATTR_NAME_MAX) return Errno::kRange;
  if (name.empty() || name.find('\0') != std::string_view::npos) return Errno::kInval;
  return std::string(name);
}

}  // namespace

Requests::Reply<Txattrwalk> Requests::handle(const Txattrwalk& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  const Pin pin = TRY(tree_.pin(*fid->node));
  XattrState state;
  if (m.name.empty()) {
    const size_t size = TRY(list_xattrs(tree_.proc(), pin.fd(), scratch_));
    state.value.assign(scratch_.begin(), scratch_.begin() + static_cast<ptrdiff_t>(size));
    keep_allowed(state.value);
  } else {
    state.name = TRY(checked_name(m.name));
    if (!xattr_allowed(state.name)) return Errno::kOpNotSupp;
    const size_t size = TRY(get_xattr(tree_.proc(), pin.fd(), state.name.c_str(), scratch_));
    state.value.assign(scratch_.begin(), scratch_.begin() + static_cast<ptrdiff_t>(size));
  }
  const uint64_t size = state.value.size();
  Ref<Fid> reader = make_ref<Fid>(fid->node, fid->owner);
  TRY(session_.set_xattr(*reader, std::move(state)));
  TRY(session_.add_or_replace(m.newfid, m.fid, std::move(reader)));
  return Rxattrwalk{size};
}

Requests::Reply<Txattrcreate> Requests::handle(const Txattrcreate& m) {
  const Ref<Fid> fid = TRY(session_.find(m.fid));
  XattrState state;
  state.name = TRY(checked_name(m.name));
  if (!xattr_allowed(state.name)) return Errno::kOpNotSupp;
  if (m.size > XATTR_SIZE_MAX) return Errno::k2Big;
  TRY(require_writable(*fid->node));
  state.writing = true;
  const bool plain = session_.dialect_ == Dialect::kPlain;
  state.remove = plain ? m.size == 0 : (m.flags & kXattrRemove) != 0;
  state.flags = static_cast<int>(m.flags & ~kXattrRemove);
  state.value.resize(m.size);
  TRY(session_.set_xattr(*fid, std::move(state)));
  return Txattrcreate::Reply{};
}

Result<size_t> Requests::read_xattr(Fid& fid, uint64_t offset, std::span<std::byte> into) {
  const XattrState& xattr = *fid.xattr;
  if (xattr.writing) return Errno::kInval;
  if (offset >= xattr.value.size()) return size_t{0};
  const size_t size = std::min(into.size(), xattr.value.size() - offset);
  std::copy_n(xattr.value.begin() + static_cast<ptrdiff_t>(offset), size, into.begin());
  return size;
}

Result<void> Requests::finish_xattr(Fid& fid) {
  XattrState xattr;
  {
    const Lock lock(fid.mutex);
    if (!fid.xattr || !fid.xattr->writing) return {};
    xattr = std::move(*fid.xattr);
    fid.xattr->writing = false;  // once
  }
  const Pin pin = TRY(tree_.pin(*fid.node));
  if (xattr.remove) return remove_xattr(tree_.proc(), pin.fd(), xattr.name.c_str());
  if (xattr.filled != xattr.value.size()) return Errno::kInval;
  return set_xattr(tree_.proc(), pin.fd(), xattr.name.c_str(), xattr.value, xattr.flags);
}

}  // namespace boxrun::gofer
