#include "sentry/mm/batch.h"

#include <algorithm>
#include <utility>

namespace boxrun::mm {

using platform::Op;
using platform::Prot;

Batch::~Batch() {
  for (const Change& change : changes_) {
    if (change.kind == Op::Kind::kMap && change.pages.in_memory_file()) {
      file_.unref(change.pages.extent(change.guest.size()));
    }
  }
}

void Batch::map(Range guest, Pages pages) {
  changes_.push_back({Op::Kind::kMap, guest, std::move(pages), std::nullopt});
}

void Batch::protect(Range guest, Prot prot, std::optional<bool> cow) {
  Pages pages;
  pages.prot = prot;
  changes_.push_back({Op::Kind::kProtect, guest, std::move(pages), cow});
}

void Batch::unmap(Range guest) { changes_.push_back({Op::Kind::kUnmap, guest, {}, std::nullopt}); }

bool Batch::touches(uint64_t addr) const {
  return std::any_of(changes_.begin(), changes_.end(),
                     [addr](const Change& change) { return change.guest.contains(addr); });
}

namespace {

// Appends `op`, as part of the last one where it continues that: the host then has one mapping.
void append(std::vector<Op>& ops, const Op& op) {
  if (!ops.empty()) {
    Op& last = ops.back();
    const bool follows = last.kind == op.kind && last.guest.end == op.guest.start &&
                         last.prot == op.prot && last.host_fd == op.host_fd;
    if (follows && (op.kind != Op::Kind::kMap || last.offset + last.guest.size() == op.offset)) {
      last.guest.end = op.guest.end;
      return;
    }
  }
  ops.push_back(op);
}

}  // namespace

std::vector<Op> Batch::ops(const RangeMap<Pages>& pages) const {
  std::vector<Op> ops;
  for (const Change& change : changes_) {
    switch (change.kind) {
      case Op::Kind::kMap: {
        const MemoryFile::Place at =
            change.pages.in_memory_file()
                ? file_.place(change.pages.offset)
                : MemoryFile::Place{change.pages.host_fd, change.pages.offset};
        append(ops, Op::map(change.guest, at.fd, at.offset, change.pages.prot));
        break;
      }
      case Op::Kind::kProtect:
        pages.for_each(change.guest, [&](Range piece, const Pages& old) {
          if (old.prot != change.pages.prot) append(ops, Op::protect(piece, change.pages.prot));
        });
        break;
      case Op::Kind::kUnmap: {
        // Where nothing was ever promised the platform has nothing to forget.
        Range hull;
        pages.for_each(change.guest, [&](Range piece, const Pages&) {
          hull = hull.empty() ? piece : Range{hull.start, piece.end};
        });
        if (!hull.empty()) append(ops, Op::unmap(hull));
        break;
      }
    }
  }
  return ops;
}

Result<void> Batch::run(platform::AddressSpace& space, Range user, RangeMap<Pages>& pages,
                        std::vector<Range>& quarantine) {
  if (const std::vector<Op> list = ops(pages); !list.empty()) {
    if (auto applied = space.apply(list); !applied) {
      withdraw(space, user, quarantine);
      return applied.error();
    }
  }
  std::vector<Range> freed;
  const auto drop = [&](Range piece, const Pages& old) {
    if (old.in_memory_file()) freed.push_back(old.extent(piece.size()));
  };
  for (Change& change : changes_) {
    switch (change.kind) {
      case Op::Kind::kMap:
        pages.erase(change.guest, drop);
        pages.insert(change.guest, std::move(change.pages));
        break;
      case Op::Kind::kProtect:
        pages.update(change.guest, [&](Range, Pages& p) {
          p.prot = change.pages.prot;
          p.cow = change.cow.value_or(p.cow);
        });
        break;
      case Op::Kind::kUnmap:
        pages.erase(change.guest, drop);
        break;
    }
  }
  changes_.clear();
  for (const Range& extent : freed) file_.unref(extent);
  return {};
}

// Some changes may have been made before one failed: new mappings installed, protection raised. The
// page map says otherwise, and later decisions (what fork must downgrade) rest on it, so all that
// was touched is withdrawn; it comes back with the next faults. Where even that fails (the host is
// out of mappings, so it cannot split one), everything is: that splits nothing.
void Batch::withdraw(platform::AddressSpace& space, Range user, std::vector<Range>& quarantine) {
  std::vector<Op> list;
  for (const Change& change : changes_) {
    if (!change.guest.empty()) append(list, Op::unmap(change.guest));
  }
  const Op all = Op::unmap(user);
  if (space.apply(list) || space.apply({&all, 1})) return;
  // The address space is lost. Its pages are free when its process has ended.
  for (const Change& change : changes_) {
    if (change.kind == Op::Kind::kMap && change.pages.in_memory_file()) {
      quarantine.push_back(change.pages.extent(change.guest.size()));
    }
  }
  changes_.clear();
}

}  // namespace boxrun::mm
